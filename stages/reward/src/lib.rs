//! Parsing of calls, the Sim-RL reward, ROUGE.
