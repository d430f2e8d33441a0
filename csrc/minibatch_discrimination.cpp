// CPU kernel of kernels/minibatch_discrimination.py, which states the maths. Lanes run over rows i, which own their results; the partners j
// of a strip of rows come in tiles, whose distances and weights pass through a buffer in the first cache, so that any number of channels
// takes the same three loops.
#include "common.h"

#include <algorithm>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

// Rows of a strip, partners of a tile, channels of a group, and what row counts are padded to.
constexpr int64_t kRows = 128, kCols = 32, kGroup = 4, kPad = 16;

struct Job {
  const void *x, *dy, *v;
  void *out, *tangent;
  int64_t n, kernels, channels, order;
};

// What one thread needs: a kernel's column of x, v (channels, stride) and dy (stride), and the tile in work. float sums run over one tile.
template <class T> struct Scratch {
  int64_t stride;
  std::vector<T> x, v, dy, k, t, part;
  std::vector<double> sums;
  explicit Scratch(const Job& job)
      : stride((job.n + kPad - 1) / kPad * kPad), x(job.channels * stride), v(job.order == 2 ? x.size() : 0),
        dy(job.order ? stride : 0), k(kRows * kCols), t(job.order == 2 ? k.size() : 0), part(kRows * std::max<int64_t>(job.channels, 1)),
        sums(kRows * (job.channels + 1)) {}
};

template <class S, class T> void fetch(const Job& job, int64_t b, Scratch<T>& s) {
  const S *x = static_cast<const S*>(job.x), *dy = static_cast<const S*>(job.dy), *v = static_cast<const S*>(job.v);
  for (int64_t i = 0; i < job.n; ++i) {
    const int64_t at = i * job.kernels + b;
    for (int64_t c = 0; c < job.channels; ++c) s.x[c * s.stride + i] = load(x[at * job.channels + c]);
    if (job.order == 2)
      for (int64_t c = 0; c < job.channels; ++c) s.v[c * s.stride + i] = load(v[at * job.channels + c]);
    if (job.order) s.dy[i] = load(dy[at]);
  }
}

// y sign(d), 0 at 0; y is NaN where d is.
template <class T> GANCORE_INLINE T turned(T y, T d) {
  constexpr Word<T> sign = Word<T>(1) << (8 * sizeof(T) - 1);
  return bits<T>((bits<Word<T>>(y) ^ (bits<Word<T>>(d) & sign)) & -Word<T>(d != T(0)));
}

// A group of channels, as a constant.
template <class Run> GANCORE_INLINE void groups(int64_t channels, Run run) {
  for (int64_t c = 0; c < channels; c += kGroup) {
    switch (std::min(kGroup, channels - c)) {
      case 1: run(c, std::integral_constant<int, 1>()); break;
      case 2: run(c, std::integral_constant<int, 2>()); break;
      case 3: run(c, std::integral_constant<int, 3>()); break;
      default: run(c, std::integral_constant<int, kGroup>());
    }
  }
}

// k = |x_i - x_j|_1 and, with a tangent, t = sum of sign(x_i - x_j) (v_i - v_j), over `size` channels of n rows and `cols` partners; added
// to what is there.
template <bool tangent, int size, class T>
GANCORE_INLINE void distances(Scratch<T>& s, int64_t c, int64_t i0, int64_t n, int64_t j0, int64_t cols) {
  const T *x = s.x.data() + c * s.stride, *v = s.v.data() + (tangent ? c * s.stride : 0);
  for (int64_t j = 0; j < cols; ++j) {
    T *k = s.k.data() + j * kRows, *t = s.t.data() + (tangent ? j * kRows : 0), xj[size], vj[size];
    for (int m = 0; m < size; ++m) xj[m] = x[m * s.stride + j0 + j], vj[m] = tangent ? v[m * s.stride + j0 + j] : T(0);
    LOOP {
      T distance = k[i], slope = tangent ? t[i] : T(0);
      for (int m = 0; m < size; ++m) {
        const T d = x[m * s.stride + i0 + i] - xj[m];
        distance += std::abs(d);
        if constexpr (tangent) slope += turned(v[m * s.stride + i0 + i] - vj[m], d);
      }
      k[i] = distance;
      if constexpr (tangent) t[i] = slope;
    }
  }
}

// part = sum over partners of k sign(x_i - x_j), for `size` channels.
template <int size, class T>
GANCORE_INLINE void slopes(Scratch<T>& s, int64_t c, int64_t i0, int64_t n, int64_t j0, int64_t cols) {
  const T* x = s.x.data() + c * s.stride;
  T* part = s.part.data() + c * kRows;
  for (int64_t j = 0; j < cols; ++j) {
    const T* k = s.k.data() + j * kRows;
    T xj[size];
    for (int m = 0; m < size; ++m) xj[m] = x[m * s.stride + j0 + j];
    LOOP {
      for (int m = 0; m < size; ++m) part[m * kRows + i] += turned(k[i], x[m * s.stride + i0 + i] - xj[m]);
    }
  }
}

template <int order, class T>
GANCORE_INLINE void tile(const Job& job, Scratch<T>& s, int64_t i0, int64_t n, int64_t j0, int64_t cols) {
  constexpr bool tangent = order == 2;
  std::fill(s.k.begin(), s.k.end(), T(0));
  if constexpr (tangent) std::fill(s.t.begin(), s.t.end(), T(0));
  groups(job.channels, [&](int64_t c, auto size) GANCORE_LAMBDA { distances<tangent, size>(s, c, i0, n, j0, cols); });
  T* row = s.part.data();
  if constexpr (order != 1) LOOP row[i] = T(0);
  for (int64_t j = 0; j < cols; ++j) {
    T *k = s.k.data() + j * kRows, *t = s.t.data() + (tangent ? j * kRows : 0);
    const T dyj = order ? s.dy[j0 + j] : T(0), *dy = s.dy.data() + (order ? i0 : 0);
    LOOP k[i] = exp_(-k[i]);
    // A row is no partner of its own, even where its distance to itself is NaN.
    if (const int64_t self = j0 + j - i0; self >= 0 && self < n) {
      k[self] = T(0);
      if constexpr (tangent) t[self] = T(0);
    }
    if constexpr (order == 0) LOOP row[i] += k[i];
    if constexpr (order == 1) LOOP k[i] *= -(dy[i] + dyj);
    if constexpr (tangent) {
      LOOP k[i] *= t[i];
      LOOP row[i] -= k[i];
      LOOP k[i] *= dy[i] + dyj;
    }
  }
  double* sums = s.sums.data();
  if constexpr (order != 1) LOOP sums[i] += double(row[i]);
  if constexpr (order == 0) return;
  std::fill(s.part.begin(), s.part.end(), T(0));
  groups(job.channels, [&](int64_t c, auto size) GANCORE_LAMBDA { slopes<size>(s, c, i0, n, j0, cols); });
  for (int64_t c = 0; c < job.channels; ++c) LOOP sums[(c + 1) * kRows + i] += double(s.part[c * kRows + i]);
}

template <class T> GANCORE_INLINE void strip(const Job& job, Scratch<T>& s, int64_t i0) {
  const int64_t n = std::min(kRows, s.stride - i0);
  std::fill(s.sums.begin(), s.sums.end(), 0.);
  for (int64_t j0 = 0; j0 < job.n; j0 += kCols) {
    const int64_t cols = std::min(kCols, job.n - j0);
    if (job.order == 0) tile<0>(job, s, i0, n, j0, cols);
    else if (job.order == 1) tile<1>(job, s, i0, n, j0, cols);
    else tile<2>(job, s, i0, n, j0, cols);
  }
}

GANCORE_CLONES void strip_of(const Job& job, Scratch<float>& s, int64_t i0) { strip(job, s, i0); }
GANCORE_CLONES void strip_of(const Job& job, Scratch<double>& s, int64_t i0) { strip(job, s, i0); }

template <class S, class T> void put(const Job& job, int64_t b, int64_t i0, const Scratch<T>& s) {
  S *out = static_cast<S*>(job.out), *rows = job.order == 0 ? out : static_cast<S*>(job.tangent);
  for (int64_t i = 0; i < std::min(kRows, job.n - i0); ++i) {
    const int64_t at = (i0 + i) * job.kernels + b;
    if (job.order != 1) store(rows[at], T(s.sums[i]));
    if (job.order != 0)
      for (int64_t c = 0; c < job.channels; ++c) store(out[at * job.channels + c], T(s.sums[(c + 1) * kRows + i]));
  }
}

template <class S> void span(const Job& job, int64_t from, int64_t to) {
  Scratch<typename Compute<S>::type> scratch(job);
  const int64_t strips = (job.n + kRows - 1) / kRows;
  for (int64_t k = from; k < to; ++k) {
    if (k == from || k % strips == 0) fetch<S>(job, k / strips, scratch);
    strip_of(job, scratch, k % strips * kRows);
    put<S>(job, k / strips, k % strips * kRows, scratch);
  }
}

const void* data(const std::optional<Tensor>& t) { return t.has_value() ? t->const_data_ptr() : nullptr; }

// All tensors are contiguous and of one dtype: x, v (n, kernels, channels), dy, tangent (n, kernels); out is as dy for order 0, else as x.
// Strips of rows have a result of their own each, so that it has the same bits on any number of threads.
void minibatch_discrimination_native(const Tensor x, std::optional<Tensor> dy, std::optional<Tensor> v, Tensor out,
                                     std::optional<Tensor> tangent, int64_t n, int64_t kernels, int64_t channels) {
  const int64_t order = v ? 2 : dy ? 1 : 0, values = n * kernels;
  const auto fits = [&](const Tensor& t, int64_t numel) { return t.numel() == numel && t.scalar_type() == x.scalar_type(); };
  STD_TORCH_CHECK(
      fits(x, values * channels) && fits(out, order ? values * channels : values) && (!dy || fits(*dy, values)) &&
          (!v || (dy && tangent && fits(*v, values * channels) && fits(*tangent, values))),
      "minibatch_discrimination: unlike tensors");
  const Job job{x.const_data_ptr(), data(dy), data(v), out.mutable_data_ptr(), tangent ? tangent->mutable_data_ptr() : nullptr,
                n, kernels, channels, order};
  const int64_t tasks = (n + kRows - 1) / kRows * kernels, pairs = std::max<int64_t>(1, std::min(n, kRows) * n);
  by_dtype(x.scalar_type(), "minibatch_discrimination", [&](auto stored) {
    torch::stable::parallel_for(0, tasks, 1 + 16384 / pairs, [&](int64_t from, int64_t to) { span<decltype(stored)>(job, from, to); });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "minibatch_discrimination_native(Tensor x, Tensor? dy, Tensor? v, Tensor(a!) out, Tensor(b!)? tangent, int n, int kernels, "
      "int channels) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) {
  m.impl("minibatch_discrimination_native", TORCH_BOX(&gancore::minibatch_discrimination_native));
}
