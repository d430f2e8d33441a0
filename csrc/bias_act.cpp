// CPU kernel of kernels/bias_act.py, which states the maths. One pass, and one loop with everything in registers; only the bias, and the
// result where it is summed by channel, go through small buffers, which makes every layout the same to that loop.
#include "activations.h"

#include <algorithm>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

constexpr int64_t kBlock = 1024, kLanes = 32;

struct Job {
  const void *ref, *b, *dy, *ddx;
  void* out;
  int64_t channels, inner, act, order;
  bool from_output;
  double slope, gain, clamp;
};

// Calls visit(position in the block, length, channel) for each stretch of one channel, or of consecutive channels where inner is 1.
template <class Visit> GANCORE_INLINE void stretches(const Job& job, int64_t start, int64_t size, Visit visit) {
  int64_t c = start / job.inner % job.channels, i = start % job.inner;
  for (int64_t at = 0; at < size;) {
    const int64_t left = job.inner == 1 ? job.channels - c : job.inner - i, n = std::min(left, size - at);
    visit(at, n, c);
    at += n, i = 0, c = job.inner == 1 || c + 1 == job.channels ? 0 : c + 1;
  }
}

template <class S, class T> GANCORE_INLINE void spread(const Job& job, int64_t start, int64_t size, T* beta) {
  const S* b = static_cast<const S*>(job.b);
  stretches(job, start, size, [&](int64_t at, int64_t n, int64_t c) GANCORE_LAMBDA {
    if (job.inner == 1) {
      LOOP beta[at + i] = load(b[c + i]);
    } else {
      const T one = load(b[c]);
      LOOP beta[at + i] = one;
    }
  });
}

// A block's stretch is summed in the type computed in, by lanes, since one chain of additions would wait for each; the rest in double.
template <class T> GANCORE_INLINE void add_up(const Job& job, int64_t start, int64_t size, const T* v, double* sums) {
  stretches(job, start, size, [&](int64_t at, int64_t n, int64_t c) GANCORE_LAMBDA {
    if (job.inner == 1) {
      LOOP sums[c + i] += double(v[at + i]);
      return;
    }
    T lanes[kLanes] = {};
    for (const T* end = v + at + n, *p = v + at; p < end; p += kLanes) {
      const int64_t n = std::min<int64_t>(kLanes, end - p);
      if (n == kLanes) {
        for (int64_t i = 0; i < kLanes; ++i) lanes[i] += p[i];
      } else {
        LOOP lanes[i] += p[i];
      }
    }
    for (int64_t n = kLanes / 2; n > 0; n /= 2) LOOP lanes[i] += lanes[i + n];
    sums[c] += double(lanes[0]);
  });
}

// Elements `start` and following; what is summed is left in h. clamped: whether a bound may be reached, as it never is where the output
// was kept.
template <class S, Act act, int order, bool from_output, bool clamped, class T>
GANCORE_INLINE void loop(const Job& job, int64_t start, int64_t n, const T* beta, T* h) {
  const T slope = T(job.slope), gain = T(job.gain), inverse = T(1) / gain, top = T(job.clamp);
  const S *ref = static_cast<const S*>(job.ref) + start, *dy = static_cast<const S*>(job.dy) + start;
  const S* ddx = static_cast<const S*>(job.ddx) + start;
  S* out = static_cast<S*>(job.out) + start;
  LOOP {
    T u = load(ref[i]), a, r;
    if constexpr (from_output) {
      u = a = u * inverse;
    } else {
      u += beta[i];
      a = value<act>(u, slope);
    }
    if constexpr (order == 0) {
      r = a * gain;
    } else {
      r = load(dy[i]);
      if constexpr (order == 2) r = r * load(ddx[i]) * second<act>(u, a);
      if constexpr (order == 1 || !(from_output || act == kSilu)) r = first<act>(r, u, a, slope);
      if constexpr (order == 1 || !from_output) r = r * gain;
    }
    if constexpr (clamped && order == 0) r = r > top ? top : (r < -top ? -top : r);
    if constexpr (clamped && order > 0) r = a * gain > top || a * gain < -top ? T(0) : r;
    if constexpr (order > 0) h[i] = r;
    store(out[i], r);
  }
}

template <class S, Act act, class T> GANCORE_INLINE void block(const Job& job, int64_t start, int64_t n, const T* beta, T* h) {
  constexpr bool smooth = act != kLinear && act != kRelu && act != kLeakyRelu;
  // Of other activations than silu the input is kept for little but a clamp.
  constexpr bool may = act != kSilu;
  const bool clamped = may || job.clamp < std::numeric_limits<double>::infinity();
  if (job.order == 0) return loop<S, act, 0, false, true>(job, start, n, beta, h);
  if (job.order == 1) {
    if (job.from_output) return loop<S, act, 1, may, !may>(job, start, n, beta, h);
    return clamped ? loop<S, act, 1, false, true>(job, start, n, beta, h) : loop<S, act, 1, false, may>(job, start, n, beta, h);
  }
  if constexpr (smooth) {
    if (job.from_output) return loop<S, act, 2, may, !may>(job, start, n, beta, h);
    return clamped ? loop<S, act, 2, false, true>(job, start, n, beta, h) : loop<S, act, 2, false, may>(job, start, n, beta, h);
  }
}

template <class S> GANCORE_INLINE void span(const Job& job, int64_t begin, int64_t end, double* sums) {
  using T = typename Compute<S>::type;
  T beta[kBlock], h[kBlock];
  // Unlike 0, -0 changes nothing that it is added to.
  std::fill(beta, beta + kBlock, T(-0.0));
  for (int64_t start = begin; start < end; start += kBlock) {
    const int64_t n = std::min(kBlock, end - start);
    if (job.b) spread<S>(job, start, n, beta);
    switch (job.act) {
      case kRelu: block<S, kRelu>(job, start, n, beta, h); break;
      case kLeakyRelu: block<S, kLeakyRelu>(job, start, n, beta, h); break;
      case kElu: block<S, kElu>(job, start, n, beta, h); break;
      case kSilu: block<S, kSilu>(job, start, n, beta, h); break;
      case kTanh: block<S, kTanh>(job, start, n, beta, h); break;
      case kSigmoid: block<S, kSigmoid>(job, start, n, beta, h); break;
      case kSoftplus: block<S, kSoftplus>(job, start, n, beta, h); break;
      default: block<S, kLinear>(job, start, n, beta, h);
    }
    if (sums) add_up(job, start, n, h, sums);
  }
}

// target_clones does not apply to templates.
GANCORE_CLONES void span_of(float, const Job& job, int64_t begin, int64_t end, double* sums) { span<float>(job, begin, end, sums); }
GANCORE_CLONES void span_of(double, const Job& job, int64_t begin, int64_t end, double* sums) { span<double>(job, begin, end, sums); }
GANCORE_CLONES void span_of(Bf16, const Job& job, int64_t begin, int64_t end, double* sums) { span<Bf16>(job, begin, end, sums); }
GANCORE_CLONES void span_of(Half, const Job& job, int64_t begin, int64_t end, double* sums) { span<Half>(job, begin, end, sums); }

const void* data(const std::optional<Tensor>& t) { return t.has_value() ? t->const_data_ptr() : nullptr; }

// All tensors are dense, of one dtype and of ref's strides; db (channels,) receives the sums of out. They are taken over chunks whose
// number depends on the size alone, so that they have the same bits on any number of threads.
void bias_act_native(const Tensor ref, std::optional<Tensor> b, std::optional<Tensor> dy, std::optional<Tensor> ddx, Tensor out,
                     std::optional<Tensor> db, int64_t channels, int64_t inner, int64_t act, int64_t order, bool from_output,
                     double slope, double gain, double clamp) {
  const int64_t total = ref.numel();
  for (const std::optional<Tensor>& t : {dy, ddx, std::optional<Tensor>(out)})
    STD_TORCH_CHECK(!t.has_value() || (t->numel() == total && t->scalar_type() == ref.scalar_type()), "bias_act: unlike tensors");
  STD_TORCH_CHECK(order == 0 || (order == 1 && dy) || (order == 2 && dy && ddx), "bias_act: order ", order, " lacks a gradient");
  for (const std::optional<Tensor>& t : {b, db})
    STD_TORCH_CHECK(!t.has_value() || (t->numel() == channels && t->scalar_type() == ref.scalar_type()), "bias_act: unlike bias");
  const int64_t most = db ? 64 : total, chunks = std::min(most, (total + 16383) / 16384);
  const int64_t size = chunks ? (total + chunks - 1) / chunks : 0;
  std::vector<double> sums(db ? chunks * channels : 0);
  const Job job{ref.const_data_ptr(), data(b), data(dy), data(ddx), out.mutable_data_ptr(), channels, inner, act, order, from_output,
                slope, gain, clamp};
  by_dtype(ref.scalar_type(), "bias_act", [&](auto stored) {
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t from, int64_t to) {
      for (int64_t k = from; k < to; ++k)
        span_of(stored, job, k * size, std::min((k + 1) * size, total), db ? sums.data() + k * channels : nullptr);
    });
    if (!db) return;
    auto* result = static_cast<decltype(stored)*>(db->mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t k = 0; k < chunks; ++k) sum += sums[k * channels + c];
      store(result[c], typename Compute<decltype(stored)>::type(sum));
    }
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "bias_act_native(Tensor ref, Tensor? b, Tensor? dy, Tensor? ddx, Tensor(a!) out, Tensor(b!)? db, int channels, int inner, "
      "int act, int order, bool from_output, float slope, float gain, float clamp) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) { m.impl("bias_act_native", TORCH_BOX(&gancore::bias_act_native)); }
