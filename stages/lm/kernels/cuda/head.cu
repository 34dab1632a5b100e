// Losses at the output head: each kernel replaces rows of logits by their gradients. A block a row; `rows` names the
// rows that are meant, so that rows of one product may have different losses.
#include "select.cuh"

// What a row of logits says.
struct RowStats {
    float logprob;  // of the target, nats
    float entropy;  // nats
    float top;      // the greatest logit
    float log_sum;  // log of the sum of e^(z - top)
};

__device__ inline float greatest_of(const float *logits, int count, float *room) {
    float top = -INFINITY;
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        // a NaN is kept, so that it is seen at the end
        top = logits[at] > top || logits[at] != logits[at] ? logits[at] : top;
    }
    return over_block(top, Greatest(), room);
}

KERNEL(row_stats, (const float *logits, int count, const int *targets, RowStats *stats)) {
    __shared__ float room[WARP];
    __shared__ double sums[WARP];
    const float *row = logits + static_cast<size_t>(blockIdx.x) * count;
    const float top = greatest_of(row, count, room);
    const SoftmaxSums softmax = softmax_sums(row, count, top, sums);
    if (threadIdx.x == 0) {
        const double log_sum = log(softmax.mass);
        const double entropy = log_sum - softmax.moment / softmax.mass;
        RowStats found;
        found.logprob = static_cast<float>(row[targets[blockIdx.x]] - top - log_sum);
        found.entropy = static_cast<float>(entropy > 0.0 ? entropy : (entropy == entropy ? 0.0 : entropy));
        found.top = top;
        found.log_sum = static_cast<float>(log_sum);
        stats[blockIdx.x] = found;
    }
}
REGISTER(row_stats)

// Cross-entropy: scale * (p - [v = target]); its loss is -logprob.
KERNEL(cross_entropy_rows,
       (float *logits, int count, const int *rows, const int *targets, const RowStats *stats,
        const float *scales)) {
    const int at_row = rows[blockIdx.x];
    float *row = logits + static_cast<size_t>(at_row) * count;
    const RowStats said = stats[at_row];
    const float scale = scales[at_row];
    const int target = targets[at_row];
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        const float p = expf(row[at] - said.top - said.log_sum);
        row[at] = scale * (at == target ? p - 1.0f : p);
    }
}
REGISTER(cross_entropy_rows)

// A loss with slopes on the log-probability and on the entropy H: d log p(target) = [v = target] - p and
// dH = -p * (log p + H).
KERNEL(policy_rows,
       (float *logits, int count, const int *rows, const int *targets, const RowStats *stats,
        const float *logprob_slopes, const float *entropy_slopes)) {
    const int at_row = rows[blockIdx.x];
    float *row = logits + static_cast<size_t>(at_row) * count;
    const RowStats said = stats[at_row];
    const float on_logprob = logprob_slopes[at_row];
    const float on_entropy = entropy_slopes[at_row];
    const int target = targets[at_row];
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        const float logprob = row[at] - said.top - said.log_sum;
        const float p = expf(logprob);
        const float excess = p > 0.0f ? logprob + said.entropy : 0.0f;
        row[at] = (at == target ? on_logprob : 0.0f) - p * (on_logprob + on_entropy * excess);
    }
}
REGISTER(policy_rows)

// Divergences, numbered as the host numbers them.
const int FORWARD = 0;
const int REVERSE = 1;
const int ADAPTIVE = 2;
const int MIXTURE = 3;

// The student's mass outside the list is not taken to be less, so that a ratio to it stays a number.
const float LEAST_MASS = 1e-6f;
const float LEAST_NORMAL = 1.17549435e-38f;

__device__ inline float log_or_zero(float x) { return x > 0.0f ? logf(x) : 0.0f; }

// One outcome with teacher mass q and student mass p > 0 in beta * KL(q, m) + (1 - beta) * KL(p, m), and its slope on
// p up to a constant that is the same for all outcomes.
__device__ inline void mixture_part(float beta, float q, float p, float *loss, float *slope) {
    if (beta <= 0.0f) {
        *loss = q * (log_or_zero(q) - logf(p));
        *slope = -q / p;
    } else if (beta >= 1.0f) {
        q = q > LEAST_NORMAL ? q : LEAST_NORMAL;
        *loss = p * (logf(p) - logf(q));
        *slope = logf(p) - logf(q);
    } else {
        const float m = logf(beta * q + (1.0f - beta) * p);
        *slope = (1.0f - beta) * (logf(p) - m);
        *loss = beta * q * (log_or_zero(q) - m) + *slope * p;
    }
}

// Constants of the divergence from a teacher that is known by its likeliest tokens.
struct TopK {
    int kind;
    float beta;
    float tail;      // weight of the tail
    int student_top; // how many of the student's likeliest tokens the tail looks at
    float ratio;     // share of distillation; the rest is cross-entropy
};

struct TopKRoom {
    SelectRoom select;
    CollectRoom collect;
    float sums[WARP];
    float gaps[2];
};
// what the host reserves for it
static_assert(sizeof(TopKRoom) <= 2560, "TOPK_ROOM");

struct Logits {
    const float *row;
    __device__ u32 operator()(int at) const { return key_of(row[at]); }
};

struct KeepIndex {
    int *list;
    __device__ void operator()(int slot, int at) const { list[slot] = at; }
};

// ratio * (divergence + tail * mass of the student's likeliest tokens that the teacher does not list) +
// (1 - ratio) * cross-entropy, as loss and gradient; [row][k] tokens and log-probabilities of the teacher start at
// places[row]. `losses` receives the loss without the scale. Shared: TopKRoom, then 3 * k floats, k integers,
// student_top integers and floats.
KERNEL(topk_rows,
       (float *logits, int count, const int *rows, const int *targets, const RowStats *stats,
        const float *scales, const int *places, const int *teacher_ids,
        const float *teacher_logprobs, int k, int kind, float beta, float tail_weight,
        int student_top, float ratio, float *losses)) {
    SHARED(TopKRoom, room);
    float *teacher = reinterpret_cast<float *>(room + 1);
    float *student = teacher + k;
    float *slopes = student + k;
    int *parts = reinterpret_cast<int *>(slopes + k);
    int *strays = parts + k;
    const bool penalised = tail_weight > 0.0f && ratio > 0.0f;
    const int likely = !penalised ? 0 : student_top < count ? student_top : count;
    float *stray_masses = reinterpret_cast<float *>(strays + likely);

    const int at_row = rows[blockIdx.x];
    float *row = logits + static_cast<size_t>(at_row) * count;
    const RowStats said = stats[at_row];
    const float normaliser = said.top + said.log_sum;
    const int *ids = teacher_ids + places[at_row];
    for (int at = threadIdx.x; at < k; at += blockDim.x) {
        teacher[at] = teacher_logprobs[places[at_row] + at];
        student[at] = row[ids[at]] - said.top - said.log_sum;
        parts[at] = 0;
    }
    if (likely > 0) {
        Logits key;
        key.row = row;
        KeepIndex keep;
        keep.list = strays;
        const Cut cut = select_count(key, count, likely, &room->select);
        collect(key, count, cut, &room->collect, keep);
    }
    __syncthreads();
    // those that the teacher lists are no strays
    float tail = 0.0f;
    for (int at = threadIdx.x; at < likely; at += blockDim.x) {
        bool listed = false;
        for (int other = 0; other < k; ++other) {
            listed = listed || ids[other] == strays[at];
        }
        stray_masses[at] = listed ? 0.0f : expf(row[strays[at]] - normaliser);
        tail += stray_masses[at];
    }
    tail = over_block(tail, Sum(), room->sums);

    float forward = 0.0f;
    float reverse = 0.0f;
    float listed_teacher = 0.0f;
    for (int at = threadIdx.x; at < k; at += blockDim.x) {
        const float q = expf(teacher[at]);
        listed_teacher += q;
        forward += q * (teacher[at] - student[at]);
        reverse += expf(student[at]) * (student[at] - teacher[at]);
    }
    forward = over_block(forward, Sum(), room->sums);
    reverse = over_block(reverse, Sum(), room->sums);
    listed_teacher = over_block(listed_teacher, Sum(), room->sums);

    float divergence = kind == FORWARD ? forward : reverse;
    if (kind == FORWARD || kind == REVERSE) {
        for (int at = threadIdx.x; at < k; at += blockDim.x) {
            const float q = expf(teacher[at]);
            slopes[at] = kind == FORWARD
                             ? -q
                             : expf(student[at]) * (student[at] - teacher[at] + 1.0f);
        }
    } else if (kind == ADAPTIVE) {
        // Part 0 holds the tokens, likeliest first, before which less than half of the mass lies. One thread finds
        // them: lists are short.
        if (threadIdx.x == 0) {
            float mass = 0.0f;
            float gaps[2] = {0.0f, 0.0f};
            for (int done = 0; done < k; ++done) {
                int best = -1;
                for (int at = 0; at < k; ++at) {
                    if ((parts[at] & 2) == 0 && (best < 0 || teacher[at] > teacher[best])) {
                        best = at;
                    }
                }
                const int part = mass >= 0.5f ? 1 : 0;
                const float q = expf(teacher[best]);
                gaps[part] += fabsf(q - expf(student[best]));
                parts[best] = part | 2;
                mass += q;
            }
            room->gaps[0] = gaps[0];
            room->gaps[1] = gaps[1];
        }
        __syncthreads();
        const float head = room->gaps[0];
        const float rest = room->gaps[1];
        const float total = head + rest;
        divergence = total > 0.0f ? (head * forward + rest * reverse) / total : 0.0f;
        for (int at = threadIdx.x; at < k; at += blockDim.x) {
            const float q = expf(teacher[at]);
            const float p = expf(student[at]);
            const float side = p > q ? 1.0f : p < q ? -1.0f : 0.0f;
            const float part = (parts[at] & 1) == 0 ? forward : reverse;
            const float slope = head * -q + rest * p * (student[at] - teacher[at] + 1.0f) +
                                side * p * (part - divergence);
            slopes[at] = total > 0.0f ? slope / total : 0.0f;
        }
    } else {
        // the student's mass outside the list, added up without the list so that little of it is not lost
        float unlisted = 0.0f;
        if (k < count) {
            for (int at = threadIdx.x; at < k; at += blockDim.x) {
                row[ids[at]] = -INFINITY;
            }
            __syncthreads();
            for (int at = threadIdx.x; at < count; at += blockDim.x) {
                unlisted += expf(row[at] - normaliser);
            }
            unlisted = over_block(unlisted, Sum(), room->sums);
            for (int at = threadIdx.x; at < k; at += blockDim.x) {
                row[ids[at]] = student[at] + normaliser;
            }
            __syncthreads();
        }
        float loss = 0.0f;
        float outside = 0.0f;
        if (k < count) {
            const float q = 1.0f - listed_teacher > 0.0f ? 1.0f - listed_teacher : 0.0f;
            mixture_part(beta, q, unlisted > LEAST_MASS ? unlisted : LEAST_MASS, &loss, &outside);
        }
        float listed_loss = 0.0f;
        for (int at = threadIdx.x; at < k; at += blockDim.x) {
            const float e = expf(student[at]);
            const float p = e > LEAST_NORMAL ? e : LEAST_NORMAL;
            float part;
            float slope;
            mixture_part(beta, expf(teacher[at]), p, &part, &slope);
            listed_loss += part;
            slopes[at] = p * (slope - outside);
        }
        divergence = loss + over_block(listed_loss, Sum(), room->sums);
    }
    __syncthreads();

    // With a the slopes on the listed log-probabilities: a on the list, c * p on the strays, and everywhere
    // p * ((1 - ratio) - ratio * sum of a - c * tail).
    float all_slopes = 0.0f;
    for (int at = threadIdx.x; at < k; at += blockDim.x) {
        all_slopes += slopes[at];
    }
    all_slopes = over_block(all_slopes, Sum(), room->sums);
    const float c = penalised ? ratio * tail_weight : 0.0f;
    const float dense = (1.0f - ratio) - ratio * all_slopes - c * tail;
    const float scale = scales[at_row];
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        row[at] = scale * dense * expf(row[at] - normaliser);
    }
    __syncthreads();
    for (int at = threadIdx.x; at < likely; at += blockDim.x) {
        if (stray_masses[at] > 0.0f) {
            row[strays[at]] += scale * c * stray_masses[at];
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < k; at += blockDim.x) {
        row[ids[at]] += scale * ratio * slopes[at];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float loss = ratio * divergence + c * tail;
        if (ratio < 1.0f) {
            row[targets[at_row]] -= scale * (1.0f - ratio);
            loss -= (1.0f - ratio) * said.logprob;
        }
        losses[at_row] = loss;
    }
}
REGISTER(topk_rows)

struct KeepWord {
    const float *row;
    u64 *words;
    // sorts as "greatest first, then lower index"
    __device__ void operator()(int slot, int at) const {
        words[slot] = static_cast<u64>(key_of(row[at])) << 32 | (0xffffffffu - static_cast<u32>(at));
    }
};

// The k greatest of each row, greatest first, equal ones by index, with their log-probabilities. Shared: room for one
// word each of `size`, the next power of 2 from k on.
KERNEL(top_rows,
       (const float *logits, int count, const RowStats *stats, int k, int size, int *ids,
        float *logprobs)) {
    __shared__ SelectRoom select;
    __shared__ CollectRoom collecting;
    SHARED(u64, words);
    const float *row = logits + static_cast<size_t>(blockIdx.x) * count;
    Logits key;
    key.row = row;
    KeepWord keep;
    keep.row = row;
    keep.words = words;
    for (int at = threadIdx.x; at < size; at += blockDim.x) {
        words[at] = 0;
    }
    const Cut cut = select_count(key, count, k, &select);
    collect(key, count, cut, &collecting, keep);
    sort_falling(words, size);
    const RowStats said = stats[blockIdx.x];
    for (int at = threadIdx.x; at < k; at += blockDim.x) {
        const int id = static_cast<int>(0xffffffffu - static_cast<u32>(words[at]));
        const size_t place = static_cast<size_t>(blockIdx.x) * k + at;
        ids[place] = id;
        logprobs[place] = row[id] - said.top - said.log_sum;
    }
}
REGISTER(top_rows)
