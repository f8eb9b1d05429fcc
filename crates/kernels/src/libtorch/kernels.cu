// The fused operations of a step, compiled at run time for an element type and a width of memory accesses: ELEMENT is float, double, bf16
// or f16, ALIGNED is 1 where lines start at multiples of 16 bytes and 0 where nothing is known.
//
// Self-contained: the run-time compiler needs no header. Values are widened to W (f32, or f64 for f64), computed there and narrowed once.
// Tensors are contiguous. A kernel may write over what it reads: every element is read and written by one thread.

typedef unsigned long long u64;
typedef long long i64;
typedef unsigned int u32;
typedef unsigned short u16;

// Brain floating point and half precision as bits.
struct bf16 { u16 bits; };
struct f16 { u16 bits; };

template <typename E> struct Wide { typedef float wide; };
template <> struct Wide<double> { typedef double wide; };

typedef ELEMENT T;
typedef Wide<T>::wide W;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ inline float widen(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

// Round to nearest, ties to even.
__device__ inline void narrow(float x, float& y) { y = x; }
__device__ inline void narrow(double x, double& y) { y = x; }
__device__ inline void narrow(float x, bf16& y) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  const u32 bits = __float_as_uint(x);
  y.bits = (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0 : (u16)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
#endif
}
__device__ inline void narrow(float x, f16& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
__device__ inline T narrowed(W x) {
  T y;
  narrow(x, y);
  return y;
}

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }

// V neighbours, moved at once: 16 bytes at most.
template <typename E, int V> struct alignas(V * sizeof(E) < 16 ? V * sizeof(E) : 16) Pack { E at[V]; };

constexpr int VECTOR = ALIGNED ? 16 / sizeof(T) : 1;

template <int V, typename E> __device__ inline void load(const E* from, W (&to)[V]) {
  const Pack<E, V> pack = *reinterpret_cast<const Pack<E, V>*>(from);
#pragma unroll
  for (int k = 0; k < V; k++) to[k] = widen(pack.at[k]);
}

template <int V> __device__ inline void store(T* to, const W (&from)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int k = 0; k < V; k++) narrow(from[k], pack.at[k]);
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// A tensor whose element is T, or W where `wide`.
template <int V> __device__ inline void load_either(const void* from, i64 at, int wide, W (&to)[V]) {
  if (wide) load<V>(static_cast<const W*>(from) + at, to);
  else load<V>(static_cast<const T*>(from) + at, to);
}

// Dropout bits, as in bits.rs.

constexpr u64 GOLDEN = 0x9E3779B97F4A7C15ull;

__device__ inline u64 mix(u64 z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

__device__ inline u64 fold(u64 key, u64 part) { return mix((key + GOLDEN) ^ (part * GOLDEN)); }

__device__ inline u64 word(u64 line_key, u64 pair) { return mix(line_key + (pair + 1) * GOLDEN); }

// Where dropout acts; `keys` [runs] is null where it does not.
struct Dropout {
  const i64* keys;
  u64 site;
  i64 rows_per_run;
  u32 limit;
  W keep;

  __device__ u64 line_key(i64 row, i64 position) const {
    const u64 run = (u64)keys[row / rows_per_run];
    return fold(fold(fold(run, site), (u64)(row % rows_per_run)), (u64)position);
  }

  // V features from `feature` on; V is 1, or even with `feature` even.
  template <int V> __device__ void drop(u64 line_key, i64 feature, W (&x)[V]) const {
    if constexpr (V == 1) {
      const u64 bits = word(line_key, (u64)feature / 2);
      x[0] = (u32)(feature % 2 ? bits >> 32 : bits) < limit ? W(0) : x[0] * keep;
    } else {
#pragma unroll
      for (int k = 0; k < V; k += 2) {
        const u64 bits = word(line_key, (u64)(feature + k) / 2);
        x[k] = (u32)bits < limit ? W(0) : x[k] * keep;
        x[k + 1] = (u32)(bits >> 32) < limit ? W(0) : x[k + 1] * keep;
      }
    }
  }
};

#define DROPOUT_PARAMETERS const i64 *keys, u64 site, i64 rows_per_run, u32 limit, double keep
#define DROPOUT Dropout{keys, site, rows_per_run, limit, (W)keep}

// Sums and maxima over the G threads of a line, in an order that never changes. A warp holds 32/G lines, or a block holds one. Every thread
// of the block takes part, also where its line does not exist.

struct Sum {
  static __device__ W of(W a, W b) { return a + b; }
};
struct Largest {
  static __device__ W of(W a, W b) { return a > b ? a : b; }
};

template <int G, typename Op> __device__ inline W over_line(W x) {
  constexpr int lanes = G < 32 ? G : 32;
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset /= 2) x = Op::of(x, __shfl_xor_sync(0xFFFFFFFFu, x, offset));
  if constexpr (G > 32) {
    __shared__ W parts[G / 32];
    __syncthreads();  // every thread has read what an earlier call left
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
#pragma unroll
    for (int k = 1; k < G / 32; k++) x = Op::of(x, parts[k]);
  }
  return x;
}

// What a thread holds of its line: E elements as vectors of V, the n-th at (n·G + lane)·V.
template <int G> struct Line {
  int lane;
  i64 index;

  __device__ Line() {
    lane = threadIdx.x % G;
    index = (i64)blockIdx.x * (blockDim.x / G) + threadIdx.x / G;
  }
  template <int V> __device__ i64 at(int n) const { return ((i64)n * G + lane) * V; }
};

template <int V>
__device__ inline void dropout_lines(const T* x, T* y, i64 lines, i64 positions, i64 features, const Dropout& dropout) {
  const i64 line = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (line >= lines) return;
  const u64 key = dropout.line_key(line / positions, line % positions);
  const i64 stride = (i64)gridDim.y * 32 * V;
  for (i64 i = ((i64)blockIdx.y * 32 + threadIdx.x % 32) * V; i < features; i += stride) {
    W at[V];
    load<V>(x + line * features + i, at);
    dropout.drop<V>(key, i, at);
    store<V>(y + line * features + i, at);
  }
}

// `z` is null where it would be x itself; `statistics` [lines, 2].
template <int G, int E, int V>
__device__ inline void norm_lines(const T* x, const T* residual, const void* gamma, const void* beta, int wide, T* y, T* z,
                                  W* statistics, i64 lines, i64 positions, i64 d, W epsilon, const Dropout& dropout) {
  const Line<G> line;
  const bool live = line.index < lines;
  const i64 start = line.index * d;
  const u64 key = live && dropout.keys ? dropout.line_key(line.index / positions, line.index % positions) : 0;
  W at[E / V][V];
  W sum = 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < d) {
      load<V>(x + start + i, at[n]);
      if (dropout.keys) dropout.drop<V>(key, i, at[n]);
      if (residual) {
        W other[V];
        load<V>(residual + start + i, other);
#pragma unroll
        for (int k = 0; k < V; k++) at[n][k] += other[k];
      }
      if (z) {
        // The statistics are those of what is kept.
#pragma unroll
        for (int k = 0; k < V; k++) at[n][k] = widen(narrowed(at[n][k]));
        store<V>(z + start + i, at[n]);
      }
#pragma unroll
      for (int k = 0; k < V; k++) sum += at[n][k];
    }
  }
  const W mean = over_line<G, Sum>(sum) / (W)d;
  W squares = 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    if (live && line.template at<V>(n) < d) {
#pragma unroll
      for (int k = 0; k < V; k++) squares += (at[n][k] - mean) * (at[n][k] - mean);
    }
  }
  const W rstd = W(1) / root(over_line<G, Sum>(squares) / (W)d + epsilon);
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < d) {
      W scale[V], shift[V];
      load_either<V>(gamma, i, wide, scale);
      load_either<V>(beta, i, wide, shift);
#pragma unroll
      for (int k = 0; k < V; k++) at[n][k] = scale[k] * ((at[n][k] - mean) * rstd) + shift[k];
      store<V>(y + start + i, at[n]);
    }
  }
  if (live && line.lane == 0) {
    statistics[2 * line.index] = mean;
    statistics[2 * line.index + 1] = rstd;
  }
}

template <int G, int E, int V>
__device__ inline void norm_backward_lines(const T* dy, const T* z, const W* statistics, const void* gamma, int wide, T* dz,
                                           i64 lines, i64 d) {
  const Line<G> line;
  const bool live = line.index < lines;
  const i64 start = line.index * d;
  const W mean = live ? statistics[2 * line.index] : W(0);
  const W rstd = live ? statistics[2 * line.index + 1] : W(0);
  W g[E / V][V], unit[E / V][V];
  W sum = 0, product = 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < d) {
      W scale[V];
      load<V>(dy + start + i, g[n]);
      load<V>(z + start + i, unit[n]);
      load_either<V>(gamma, i, wide, scale);
#pragma unroll
      for (int k = 0; k < V; k++) {
        g[n][k] *= scale[k];
        unit[n][k] = (unit[n][k] - mean) * rstd;
        sum += g[n][k];
        product += g[n][k] * unit[n][k];
      }
    }
  }
  sum = over_line<G, Sum>(sum) / (W)d;
  product = over_line<G, Sum>(product) / (W)d;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < d) {
#pragma unroll
      for (int k = 0; k < V; k++) g[n][k] = rstd * (g[n][k] - sum - unit[n][k] * product);
      store<V>(dz + start + i, g[n]);
    }
  }
}

// Lines are [rows, heads, queries], their elements keys. `p` is null where it is not kept, `dropped` where nothing is dropped.
template <int G, int E, int V>
__device__ inline void softmax_lines(const T* scores, const void* bias, int wide, i64 bias_row, i64 bias_query, T* p, T* dropped,
                                     i64 lines, i64 heads, i64 queries, i64 length, W scale, const Dropout& dropout) {
  const Line<G> line;
  const bool live = line.index < lines;
  const i64 start = line.index * length;
  const i64 query = line.index % queries, head = line.index / queries % heads, row = line.index / queries / heads;
  const i64 mask = row * bias_row + query * bias_query;
  W at[E / V][V];
  W largest = (W)__uint_as_float(0xFF800000u);  // minus infinity
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < length) {
      W shift[V];
      load<V>(scores + start + i, at[n]);
      load_either<V>(bias, mask + i, wide, shift);
#pragma unroll
      for (int k = 0; k < V; k++) {
        at[n][k] = at[n][k] * scale + shift[k];
        largest = Largest::of(at[n][k], largest);
      }
    }
  }
  largest = over_line<G, Largest>(largest);
  W sum = 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    if (live && line.template at<V>(n) < length) {
#pragma unroll
      for (int k = 0; k < V; k++) {
        at[n][k] = exponential(at[n][k] - largest);
        sum += at[n][k];
      }
    }
  }
  sum = over_line<G, Sum>(sum);
  const u64 key = live && dropout.keys ? dropout.line_key(row, query * heads + head) : 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < length) {
#pragma unroll
      for (int k = 0; k < V; k++) at[n][k] = widen(narrowed(at[n][k] / sum));
      if (p) store<V>(p + start + i, at[n]);
      if (dropped) {
        dropout.drop<V>(key, i, at[n]);
        store<V>(dropped + start + i, at[n]);
      }
    }
  }
}

// From the gradient `dp` of the dropped probabilities: that of the raw scores, over it, and the dropped probabilities once more, which the
// gradient of the values needs; `dropped` is null where nothing is dropped.
template <int G, int E, int V>
__device__ inline void softmax_backward_lines(T* dp, const T* p, T* dropped, i64 lines, i64 heads, i64 queries, i64 length, W scale,
                                              const Dropout& dropout) {
  const Line<G> line;
  const bool live = line.index < lines;
  const i64 start = line.index * length;
  const i64 query = line.index % queries, head = line.index / queries % heads, row = line.index / queries / heads;
  const u64 key = live && dropout.keys ? dropout.line_key(row, query * heads + head) : 0;
  W g[E / V][V], at[E / V][V];
  W product = 0;
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < length) {
      load<V>(dp + start + i, g[n]);
      load<V>(p + start + i, at[n]);
      if (dropped) {
        W kept[V];
#pragma unroll
        for (int k = 0; k < V; k++) kept[k] = at[n][k];
        dropout.drop<V>(key, i, kept);
        store<V>(dropped + start + i, kept);
        dropout.drop<V>(key, i, g[n]);
      }
#pragma unroll
      for (int k = 0; k < V; k++) product += g[n][k] * at[n][k];
    }
  }
  product = over_line<G, Sum>(product);
#pragma unroll
  for (int n = 0; n < E / V; n++) {
    const i64 i = line.template at<V>(n);
    if (live && i < length) {
#pragma unroll
      for (int k = 0; k < V; k++) g[n][k] = scale * at[n][k] * (g[n][k] - product);
      store<V>(dp + start + i, g[n]);
    }
  }
}

// Over `value`, `first` and `second` [runs, n]; a block's second index is the run.
template <int V>
__device__ inline void adamw_columns(T* value, T* first, T* second, const T* gradient, const i64* segment, const T* coefficients,
                                     const T* clip, i64 n, i64 segments, W beta1, W rest1, W beta2, W rest2, W epsilon) {
  const i64 run = blockIdx.y;
  const W factor = widen(clip[run]);
  if (!(factor >= W(0)) || factor - factor != W(0)) return;
  const i64 stride = (i64)gridDim.x * blockDim.x * V;
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V; i < n; i += stride) {
    const Pack<i64, V> of = *reinterpret_cast<const Pack<i64, V>*>(segment + i);
    W p[V], m[V], v[V], g[V];
    load<V>(value + run * n + i, p);
    load<V>(first + run * n + i, m);
    load<V>(second + run * n + i, v);
    load<V>(gradient + run * n + i, g);
#pragma unroll
    for (int k = 0; k < V; k++) {
      W c[4];
      load<4>(coefficients + (run * segments + of.at[k]) * 4, c);
      if (c[3] > W(0.5)) {
        const W clipped = factor * g[k];
        m[k] = beta1 * m[k] + rest1 * clipped;
        v[k] = beta2 * v[k] + rest2 * (clipped * clipped);
        p[k] = c[2] * p[k] - c[0] * m[k] / (c[1] * root(v[k]) + epsilon);
      }
    }
    store<V>(value + run * n + i, p);
    store<V>(first + run * n + i, m);
    store<V>(second + run * n + i, v);
  }
}

__device__ inline double block_sum(double x) {
  __shared__ double parts[256];
  parts[threadIdx.x] = x;
  __syncthreads();
#pragma unroll
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  return parts[0];
}

// What scales a column: 1 where the norm is 0.
__device__ inline W column_factor(W magnitude, W norm) { return norm == W(0) ? W(1) : magnitude / norm; }

// A block's columns and rows of one run of x [runs, n, m]: 32 threads side by side hold V columns each, eight rows at a time; `blocks` of
// them share the rows of a run, and blockIdx.y counts those of every run.
template <int V> struct Columns {
  i64 run, block, first, column;

  __device__ Columns(i64 blocks) {
    run = blockIdx.y / blocks;
    block = blockIdx.y % blocks;
    first = block * 8 + threadIdx.x / 32;
    column = ((i64)blockIdx.x * 32 + threadIdx.x % 32) * V;
  }
  __device__ void factors(const W* magnitude, const W* norm, i64 m, W (&factor)[V]) const {
    W divisor[V];
    load<V>(magnitude + run * m + column, factor);
    load<V>(norm + run * m + column, divisor);
#pragma unroll
    for (int k = 0; k < V; k++) factor[k] = column_factor(factor[k], divisor[k]);
  }
};

template <int V>
__device__ inline void scale_columns_of(const T* x, const W* magnitude, const W* norm, const void* bias, int wide, T* y, i64 n, i64 m,
                                        i64 blocks) {
  const Columns<V> here(blocks);
  if (here.column >= m) return;
  W factor[V], shift[V];
  here.factors(magnitude, norm, m, factor);
#pragma unroll
  for (int k = 0; k < V; k++) shift[k] = W(0);
  if (bias) load_either<V>(bias, here.column, wide, shift);
  for (i64 i = here.first; i < n; i += blocks * 8) {
    const i64 at = (here.run * n + i) * m + here.column;
    W v[V];
    load<V>(x + at, v);
#pragma unroll
    for (int k = 0; k < V; k++) v[k] = factor[k] * v[k] + shift[k];
    store<V>(y + at, v);
  }
}

// `parts` [runs, blocks, m]: the sums of dy∘x over a block's rows.
template <int V>
__device__ inline void scale_columns_backward_of(const T* dy, const T* x, const W* magnitude, const W* norm, T* dx, W* parts, i64 n,
                                                 i64 m, i64 blocks) {
  __shared__ W sums[8][32 * V];
  const Columns<V> here(blocks);
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  W factor[V], sum[V];
#pragma unroll
  for (int k = 0; k < V; k++) sum[k] = W(0);
  if (here.column < m) {
    here.factors(magnitude, norm, m, factor);
    for (i64 i = here.first; i < n; i += blocks * 8) {
      const i64 at = (here.run * n + i) * m + here.column;
      W g[V], v[V];
      load<V>(dy + at, g);
      load<V>(x + at, v);
#pragma unroll
      for (int k = 0; k < V; k++) {
        sum[k] += g[k] * v[k];
        g[k] *= factor[k];
      }
      store<V>(dx + at, g);
    }
  }
#pragma unroll
  for (int k = 0; k < V; k++) sums[slice][lane * V + k] = sum[k];
  __syncthreads();
  if (slice != 0 || here.column >= m) return;
#pragma unroll
  for (int k = 0; k < V; k++) {
    W total = 0;
#pragma unroll
    for (int from = 0; from < 8; from++) total += sums[from][lane * V + k];
    parts[(here.run * blocks + here.block) * m + here.column + k] = total;
  }
}

// The factor of low rank that a block of columns of `column_norms` holds.
constexpr int MOST_COMPONENTS = 32768 / (32 * sizeof(W));

// As kernel.rs has it.
constexpr int LARGEST_CAYLEY = 64;

extern "C" {

__global__ void __launch_bounds__(256) dropout(const T* x, T* y, i64 lines, i64 positions, i64 features, DROPOUT_PARAMETERS) {
  dropout_lines<VECTOR>(x, y, lines, positions, features, DROPOUT);
}

// Every operation on lines of at most G·E elements.
#define LINES(SUFFIX, G, E, THREADS)                                                                                           \
  __global__ void __launch_bounds__(THREADS) norm_##SUFFIX(                                                                    \
      const T* x, const T* residual, const void* gamma, const void* beta, int wide, T* y, T* z, W* statistics, i64 lines,      \
      i64 positions, i64 d, double epsilon, DROPOUT_PARAMETERS) {                                                                \
    norm_lines<G, E, VECTOR>(x, residual, gamma, beta, wide, y, z, statistics, lines, positions, d, (W)epsilon, DROPOUT);        \
  }                                                                                                                            \
  __global__ void __launch_bounds__(THREADS) norm_backward_##SUFFIX(                                                           \
      const T* dy, const T* z, const W* statistics, const void* gamma, int wide, T* dz, i64 lines, i64 d) {                    \
    norm_backward_lines<G, E, VECTOR>(dy, z, statistics, gamma, wide, dz, lines, d);                                           \
  }                                                                                                                            \
  __global__ void __launch_bounds__(THREADS) softmax_##SUFFIX(                                                                 \
      const T* scores, const void* bias, int wide, i64 bias_row, i64 bias_query, T* p, T* dropped, i64 lines, i64 heads,       \
      i64 queries, i64 length, double scale, DROPOUT_PARAMETERS) {                                                               \
    softmax_lines<G, E, VECTOR>(scores, bias, wide, bias_row, bias_query, p, dropped, lines, heads, queries, length, (W)scale, \
                           DROPOUT);                                                                                             \
  }                                                                                                                            \
  __global__ void __launch_bounds__(THREADS) softmax_backward_##SUFFIX(                                                        \
      T* dp, const T* p, T* dropped, i64 lines, i64 heads, i64 queries, i64 length, double scale, DROPOUT_PARAMETERS) {          \
    softmax_backward_lines<G, E, VECTOR>(dp, p, dropped, lines, heads, queries, length, (W)scale, DROPOUT);                      \
  }
#if ALIGNED
LINES(64, 8, 8, 128)
LINES(128, 16, 8, 128)
#endif
LINES(1024, 32, 32, 128)
LINES(4096, 256, 16, 256)
#if !ALIGNED
LINES(16384, 1024, 16, 1024)
#endif

__global__ void __launch_bounds__(256) adamw(T* value, T* first, T* second, const T* gradient, const i64* segment,
                                             const T* coefficients, const T* clip, i64 n, i64 segments, double beta1,
                                             double beta2, double epsilon) {
  adamw_columns<VECTOR>(value, first, second, gradient, segment, coefficients, clip, n, segments, (W)beta1, (W)(1.0 - beta1),
                        (W)beta2, (W)(1.0 - beta2), (W)epsilon);
}

// Sums of squares of `x` [runs, n] in two stages, a number of blocks that depends on n alone: `parts` [runs, blocks].
__global__ void __launch_bounds__(256) squares(const T* x, double* parts, i64 n) {
  const i64 run = blockIdx.y;
  double sum = 0;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const W at = widen(x[run * n + i]);
    sum += (double)at * (double)at;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[run * gridDim.x + blockIdx.x] = sum;
}

// `total` [runs], f32 at least.
__global__ void __launch_bounds__(256) squares_total(const double* parts, W* total, i64 blocks) {
  const i64 run = blockIdx.x;
  double sum = 0;
  for (i64 i = threadIdx.x; i < blocks; i += blockDim.x) sum += parts[run * blocks + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) total[run] = (W)sum;
}

// Norms of the columns of base + down·up: `base` [d, m] with any strides, `down` [runs, d, k], `up` [runs, k, m], `norm` [runs, m]. A block
// has 32 columns of a run, blockIdx.y, and 32 slices of their rows.
__global__ void __launch_bounds__(1024) column_norms(const T* base, i64 row_stride, i64 column_stride, const W* down, const W* up,
                                                     W* norm, i64 d, i64 m, i64 k) {
  __shared__ W tile[MOST_COMPONENTS * 32];
  __shared__ W parts[32][33];
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const i64 j = (i64)blockIdx.x * 32 + lane, run = blockIdx.y;
  const bool live = j < m;
  for (i64 r = slice; r < k; r += 32) tile[r * 32 + lane] = live ? up[(run * k + r) * m + j] : W(0);
  __syncthreads();
  W sum = 0;
  if (live) {
    for (i64 i = slice; i < d; i += 32) {
      const W* row = down + (run * d + i) * k;
      W at = widen(base[i * row_stride + j * column_stride]);
      for (i64 r = 0; r < k; r++) at += row[r] * tile[r * 32 + lane];
      sum += at * at;
    }
  }
  parts[slice][lane] = sum;
  __syncthreads();
  if (slice == 0 && live) {
    W total = 0;
    for (int from = 0; from < 32; from++) total += parts[from][lane];
    norm[run * m + j] = root(total);
  }
}

__global__ void __launch_bounds__(256) scale_columns(const T* x, const W* magnitude, const W* norm, const void* bias, int wide, T* y,
                                                     i64 n, i64 m, i64 blocks) {
  scale_columns_of<VECTOR>(x, magnitude, norm, bias, wide, y, n, m, blocks);
}

__global__ void __launch_bounds__(256) scale_columns_backward(const T* dy, const T* x, const W* magnitude, const W* norm, T* dx,
                                                              W* parts, i64 n, i64 m, i64 blocks) {
  scale_columns_backward_of<VECTOR>(dy, x, magnitude, norm, dx, parts, n, m, blocks);
}

// The gradient of the magnitude, [runs, m], from `parts` [runs, blocks, m].
__global__ void __launch_bounds__(256) scale_columns_total(const W* parts, const W* norm, W* total, i64 m, i64 blocks) {
  __shared__ W sums[8][32];
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const i64 j = (i64)blockIdx.x * 32 + lane, run = blockIdx.y;
  W sum = 0;
  if (j < m) {
    for (i64 block = slice; block < blocks; block += 8) sum += parts[(run * blocks + block) * m + j];
  }
  sums[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || j >= m) return;
  sum = 0;
  for (int from = 0; from < 8; from++) sum += sums[from][lane];
  const W divisor = norm[run * m + j];
  total[run * m + j] = divisor == W(0) ? W(0) : sum / divisor;
}

// (I - Q)(I + Q)^-1 of matrices Q [b, b], b at most LARGEST_CAYLEY, one for each block: Gauss and Jordan's inverse in place, without a search for
// pivots, which are 1 or more where Q is skew-symmetric.
__global__ void __launch_bounds__(256) cayley(const T* q, T* r, i64 width) {
  __shared__ W matrix[LARGEST_CAYLEY * LARGEST_CAYLEY];
  __shared__ W factors[LARGEST_CAYLEY];
  const int b = (int)width, size = b * b;
  const i64 first = (i64)blockIdx.x * size;
  for (int at = threadIdx.x; at < size; at += blockDim.x) matrix[at] = widen(q[first + at]) + W(at / b == at % b ? 1 : 0);
  for (int k = 0; k < b; k++) {
    __syncthreads();
    const W pivot = W(1) / matrix[k * b + k];
    for (int i = threadIdx.x; i < b; i += blockDim.x) factors[i] = matrix[i * b + k];
    __syncthreads();
    for (int j = threadIdx.x; j < b; j += blockDim.x) matrix[k * b + j] = j == k ? pivot : matrix[k * b + j] * pivot;
    __syncthreads();
    for (int at = threadIdx.x; at < size; at += blockDim.x) {
      const int i = at / b, j = at % b;
      if (i != k) matrix[at] = (j == k ? W(0) : matrix[at]) - factors[i] * matrix[k * b + j];
    }
  }
  __syncthreads();
  for (int at = threadIdx.x; at < size; at += blockDim.x) r[first + at] = narrowed(W(2) * matrix[at] - W(at / b == at % b ? 1 : 0));
}

}  // extern "C"
