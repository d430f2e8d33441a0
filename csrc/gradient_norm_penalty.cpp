// CPU kernel of kernels/gradient_norm_penalty.py, which states the maths. A sample belongs to one thread: what it costs and its derivatives
// depend on it alone, and have the same bits on any number of threads.
#include "common.h"

#include <algorithm>
#include <cmath>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

enum Norm : int64_t { kMost = 0, kSum = 1, kEuclid = 2 };

// g, v, out (samples, size) of the stored type; penalty, length, dy, along (samples,) of the type computed in.
struct Job {
  const void *g, *v, *dy;
  void *penalty, *length, *out, *along;
  int64_t size, order;
  double center;
  bool one_sided;
};

constexpr int64_t kLanes = 32, kBlock = 4096;

// The sum of term(i): by lanes, since one chain of additions would wait for each, and in double from block to block.
template <class T, class Term> GANCORE_INLINE T total(int64_t size, Term term) {
  double sum = 0;
  for (int64_t start = 0; start < size; start += kBlock) {
    T lanes[kLanes] = {};
    const int64_t end = std::min(start + kBlock, size);
    int64_t at = start;
    for (constexpr int64_t n = kLanes; at + n <= end; at += n) LOOP lanes[i] += term(at + i);
    for (; at < end; ++at) lanes[at % kLanes] += term(at);
    for (int64_t n = kLanes / 2; n > 0; n /= 2) LOOP lanes[i] += lanes[i + n];
    sum += double(lanes[0]);
  }
  return T(sum);
}

template <class T> GANCORE_INLINE Word<T> magnitude(T x) {
  return bits<Word<T>>(x) & ~(Word<T>(1) << (8 * sizeof(T) - 1));
}

// Bits of magnitudes are ordered as the numbers are, with NaN above infinity.
template <class T, class S> GANCORE_INLINE T largest(const S* g, int64_t size) {
  Word<T> lanes[kLanes] = {};
  int64_t at = 0;
  for (constexpr int64_t n = kLanes; at + n <= size; at += n) LOOP lanes[i] = std::max(lanes[i], magnitude(load(g[at + i])));
  for (; at < size; ++at) lanes[0] = std::max(lanes[0], magnitude(load(g[at])));
  return bits<T>(*std::max_element(lanes, lanes + kLanes));
}

template <class T> GANCORE_INLINE T sign(T x) { return x > T(0) ? T(1) : (x < T(0) ? T(-1) : x); }

// The direction of element x: what g is multiplied by one number to become its own derivative. share: 1 / ties of the largest.
template <Norm norm, class T> GANCORE_INLINE T direction(T x, T length, T share) {
  if constexpr (norm == kEuclid) return x;
  if constexpr (norm == kSum) return sign(x);
  return magnitude(x) == magnitude(length) ? sign(x) * share : T(0);
}

template <Norm norm, class S> GANCORE_INLINE void sample(const Job& job, int64_t k) {
  using T = typename Compute<S>::type;
  const int64_t n = job.size;
  const S *g = static_cast<const S*>(job.g) + k * n, *v = static_cast<const S*>(job.v) + k * n;
  const T center = T(job.center);
  const bool square = norm == kEuclid && job.center == 0;
  T &length = static_cast<T*>(job.length)[k];
  if (job.order == 0) {
    T squared = 0;
    if constexpr (norm == kEuclid) squared = total<T>(n, [=](int64_t i) GANCORE_LAMBDA { return load(g[i]) * load(g[i]); });
    if constexpr (norm == kEuclid) length = std::sqrt(squared);
    if constexpr (norm == kSum) length = total<T>(n, [=](int64_t i) GANCORE_LAMBDA { return std::abs(load(g[i])); });
    if constexpr (norm == kMost) length = largest<T>(g, n);
    const T off = job.one_sided && length <= center ? T(0) : length - center;
    static_cast<T*>(job.penalty)[k] = square ? squared : off * off;
    return;
  }
  const T r = length, dy = static_cast<const T*>(job.dy)[k];
  const bool on = !(job.one_sided && r <= center);
  const T curve = on || square ? T(2) : T(0), slope = on ? T(2) * (r - center) : T(0);
  const T ratio = square ? T(2) : (r == T(0) ? T(0) : slope / r);
  T share = 1;
  if constexpr (norm == kMost)
    share = T(1) / total<T>(n, [=](int64_t i) GANCORE_LAMBDA { return T(magnitude(load(g[i])) == magnitude(r)); });
  T by_g = dy * (norm == kEuclid ? ratio : slope), by_v = 0;
  if (job.order == 2) {
    const T along = total<T>(n, [=](int64_t i) GANCORE_LAMBDA { return direction<norm>(load(g[i]), r, share) * load(v[i]); });
    static_cast<T*>(job.along)[k] = along * (norm == kEuclid ? ratio : slope);
    by_v = norm == kEuclid ? dy * ratio : T(0);
    by_g = dy * curve * along;
    if constexpr (norm == kEuclid) by_g = square || r == T(0) ? T(0) : dy * (curve - ratio) * (along / r) / r;
  }
  S* out = static_cast<S*>(job.out) + k * n;
  if (norm == kEuclid && job.order == 2) {
    LOOP store(out[i], by_g * load(g[i]) + by_v * load(v[i]));
  } else {
    LOOP store(out[i], by_g * direction<norm>(load(g[i]), r, share));
  }
}

template <class S> GANCORE_INLINE void span(const Job& job, int64_t norm, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    if (norm == kEuclid) sample<kEuclid, S>(job, k);
    if (norm == kSum) sample<kSum, S>(job, k);
    if (norm == kMost) sample<kMost, S>(job, k);
  }
}

// target_clones does not apply to templates.
GANCORE_CLONES void span_of(float, const Job& job, int64_t norm, int64_t begin, int64_t end) { span<float>(job, norm, begin, end); }
GANCORE_CLONES void span_of(double, const Job& job, int64_t norm, int64_t begin, int64_t end) { span<double>(job, norm, begin, end); }
GANCORE_CLONES void span_of(Bf16, const Job& job, int64_t norm, int64_t begin, int64_t end) { span<Bf16>(job, norm, begin, end); }
GANCORE_CLONES void span_of(Half, const Job& job, int64_t norm, int64_t begin, int64_t end) { span<Half>(job, norm, begin, end); }

// Order 0 writes penalty and length; order 1 reads length and dy and writes out; order 2 reads v as well and writes along too. norm: 0
// for the largest magnitude.
void gradient_norm_penalty_native(const Tensor g, Tensor length, std::optional<Tensor> penalty, std::optional<Tensor> dy,
                                  std::optional<Tensor> v, std::optional<Tensor> out, std::optional<Tensor> along, int64_t order,
                                  int64_t norm, double center, bool one_sided) {
  const int64_t samples = length.numel(), size = samples ? g.numel() / samples : 0;
  const bool wide = g.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(size * samples == g.numel(), "gradient_norm_penalty: ", g.numel(), " elements of ", samples, " samples");
  for (const std::optional<Tensor>& t : {v, out})
    STD_TORCH_CHECK(!t || (t->numel() == g.numel() && t->scalar_type() == g.scalar_type()), "gradient_norm_penalty: unlike tensors");
  for (const std::optional<Tensor>& t : {std::optional<Tensor>(length), penalty, dy, along})
    STD_TORCH_CHECK(!t || (t->numel() == samples && t->scalar_type() == (wide ? ScalarType::Double : ScalarType::Float)),
                    "gradient_norm_penalty: unlike numbers of a sample");
  STD_TORCH_CHECK(order == 0 ? penalty.has_value() : dy && out && (order == 1 || (v && along)),
                  "gradient_norm_penalty: order ", order, " lacks a tensor");
  const auto read = [](const std::optional<Tensor>& t) -> const void* { return t ? t->const_data_ptr() : nullptr; };
  const auto written = [](const std::optional<Tensor>& t) -> void* { return t ? t->mutable_data_ptr() : nullptr; };
  const Job job{g.const_data_ptr(), read(v), read(dy), written(penalty), length.mutable_data_ptr(), written(out), written(along), size,
                order, center, one_sided};
  by_dtype(g.scalar_type(), "gradient_norm_penalty", [&](auto stored) {
    const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, size));
    torch::stable::parallel_for(0, samples, grain, [&](int64_t from, int64_t to) { span_of(stored, job, norm, from, to); });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "gradient_norm_penalty_native(Tensor g, Tensor(a!) length, Tensor(b!)? penalty, Tensor? dy, Tensor? v, Tensor(c!)? out, "
      "Tensor(d!)? along, int order, int norm, float center, bool one_sided) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) { m.impl("gradient_norm_penalty_native", TORCH_BOX(&gancore::gradient_norm_penalty_native)); }
