// Every kernel, as one module.
#include "adamw.cu"
#include "attention.cu"
#include "head.cu"
#include "norm.cu"
#include "rope.cu"
#include "rows.cu"
#include "sample.cu"
#include "swiglu.cu"
