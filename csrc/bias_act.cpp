// CPU kernel of kernels/bias_act.py, which states the maths. One pass: a block is loaded with its bias, transformed in the first
// cache, summed by channel where a bias gradient is wanted, and stored.
#include "activations.h"

#include <algorithm>

namespace gancore {
namespace {

constexpr int64_t kBlock = 512;

struct Job {
  const void *ref, *b, *dy, *ddx;
  void* out;
  double* partial;
  int64_t channels, inner, act, order;
  bool from_output;
  double slope, gain, clamp;
};

template <class S, class T> GANCORE_INLINE void load_block(const void* from, int64_t start, T* to, int64_t n) {
  const S* p = static_cast<const S*>(from) + start;
  LOOP to[i] = load(p[i]);
}

// Calls visit(position in the block, length, channel) for each stretch of one channel, or of consecutive channels where inner is 1.
template <class Visit> GANCORE_INLINE void stretches(const Job& job, int64_t start, int64_t n, Visit visit) {
  int64_t c = start / job.inner % job.channels, i = start % job.inner;
  for (int64_t at = 0; at < n;) {
    const int64_t left = job.inner == 1 ? job.channels - c : job.inner - i, length = std::min(left, n - at);
    visit(at, length, c);
    at += length, i = 0, c = job.inner == 1 ? 0 : (c + 1 == job.channels ? 0 : c + 1);
  }
}

template <class S, class T> GANCORE_INLINE void load_biased(const Job& job, int64_t start, T* u, int64_t block) {
  const S *b = static_cast<const S*>(job.b), *x = static_cast<const S*>(job.ref) + start;
  stretches(job, start, block, [&](int64_t at, int64_t n, int64_t c) GANCORE_LAMBDA {
    if (job.inner == 1) {
      LOOP u[at + i] = load(x[at + i]) + load(b[c + i]);
    } else {
      const T beta = load(b[c]);
      LOOP u[at + i] = load(x[at + i]) + beta;
    }
  });
}

template <class T> GANCORE_INLINE void add_up(const Job& job, int64_t start, const T* v, int64_t n, double* sums) {
  stretches(job, start, n, [&](int64_t at, int64_t length, int64_t c) GANCORE_LAMBDA {
    if (job.inner == 1) {
      for (int64_t i = 0; i < length; ++i) sums[c + i] += double(v[at + i]);
      return;
    }
    double lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= length; i += 8)
      for (int64_t k = 0; k < 8; ++k) lanes[k] += double(v[at + i + k]);
    for (; i < length; ++i) lanes[0] += double(v[at + i]);
    sums[c] += ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  });
}

template <class S> GANCORE_INLINE void span(const Job& job, int64_t begin, int64_t end, double* sums) {
  using T = typename Compute<S>::type;
  const T slope = T(job.slope), gain = T(job.gain), top = T(job.clamp);
  const bool clamped = job.clamp < std::numeric_limits<double>::infinity();
  T u[kBlock], a[kBlock], h[kBlock], g[kBlock];
  for (int64_t start = begin; start < end; start += kBlock) {
    const int64_t n = std::min(kBlock, end - start);
    const T* result = h;
    if (job.b) {
      load_biased<S>(job, start, u, n);
    } else {
      load_block<S>(job.ref, start, u, n);
    }
    if (job.from_output) {
      LOOP u[i] = a[i] = u[i] / gain;
    } else if (job.order == 0 || job.act != kSilu || clamped) {
      value(job.act, u, a, n, slope);
    }
    if (job.order == 0 && gain == T(1) && !clamped) {
      result = a;
    } else if (job.order == 0) {
      LOOP h[i] = a[i] * gain;
      if (clamped) LOOP h[i] = h[i] > top ? top : (h[i] < -top ? -top : h[i]);
    } else {
      load_block<S>(job.dy, start, g, n);
      if (job.order == 1) {
        first(job.act, u, a, h, n, slope);
        // A product would turn an infinite gradient into NaN where the reference selects zero.
        if (job.act == kRelu) LOOP g[i] = a[i] <= T(0) ? T(0) : g[i];
        LOOP h[i] = g[i] * h[i] * gain;
      } else {
        second(job.act, job.from_output, u, a, h, n);
        const T scale = job.from_output ? T(1) : gain;
        LOOP h[i] = g[i] * h[i] * scale;
        load_block<S>(job.ddx, start, g, n);
        LOOP h[i] = g[i] * h[i];
      }
      if (clamped) LOOP h[i] = (a[i] * gain > top || a[i] * gain < -top) ? T(0) : h[i];
    }
    if (sums) add_up(job, start, result, n, sums);
    S* out = static_cast<S*>(job.out) + start;
    LOOP store(out[i], result[i]);
  }
}

// target_clones does not apply to templates.
GANCORE_CLONES void span_of(float, const Job& job, int64_t begin, int64_t end, double* sums) { span<float>(job, begin, end, sums); }
GANCORE_CLONES void span_of(double, const Job& job, int64_t begin, int64_t end, double* sums) { span<double>(job, begin, end, sums); }
GANCORE_CLONES void span_of(Bf16, const Job& job, int64_t begin, int64_t end, double* sums) { span<Bf16>(job, begin, end, sums); }
GANCORE_CLONES void span_of(Half, const Job& job, int64_t begin, int64_t end, double* sums) { span<Half>(job, begin, end, sums); }

const void* data(const std::optional<Tensor>& t) { return t.has_value() ? t->const_data_ptr() : nullptr; }

// All tensors are dense, of one dtype and of ref's strides. partial is float64 (chunks, channels), one row for each chunk of a fixed size, so
// that sums do not depend on the number of threads.
void bias_act_native(const Tensor ref, std::optional<Tensor> b, std::optional<Tensor> dy, std::optional<Tensor> ddx, Tensor out,
                     std::optional<Tensor> partial, int64_t channels, int64_t inner, int64_t act, int64_t order, bool from_output,
                     double slope, double gain, double clamp) {
  const int64_t total = ref.numel();
  for (const std::optional<Tensor>& t : {dy, ddx, std::optional<Tensor>(out)})
    STD_TORCH_CHECK(!t.has_value() || (t->numel() == total && t->scalar_type() == ref.scalar_type()), "bias_act: unlike tensors");
  STD_TORCH_CHECK(order == 0 || (order == 1 && dy) || (order == 2 && dy && ddx), "bias_act: order ", order, " lacks a gradient");
  STD_TORCH_CHECK(!b || (b->numel() == channels && b->scalar_type() == ref.scalar_type()), "bias_act: bias of a wrong size or type");
  const bool sums = partial.has_value();
  STD_TORCH_CHECK(!sums || (partial->scalar_type() == ScalarType::Double && partial->size(1) == channels), "bias_act: partial sums");
  const int64_t chunks = sums ? partial->size(0) : (total + 16383) / 16384, size = chunks ? (total + chunks - 1) / chunks : 0;
  const Job job{ref.const_data_ptr(), data(b), data(dy), data(ddx), out.mutable_data_ptr(),
                sums ? static_cast<double*>(partial->mutable_data_ptr()) : nullptr,
                channels, inner, act, order, from_output, slope, gain, clamp};
  by_dtype(ref.scalar_type(), "bias_act", [&](auto stored) {
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t from, int64_t to) {
      for (int64_t k = from; k < to; ++k)
        span_of(stored, job, k * size, std::min((k + 1) * size, total), job.partial ? job.partial + k * channels : nullptr);
    });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "bias_act_native(Tensor ref, Tensor? b, Tensor? dy, Tensor? ddx, Tensor(a!) out, Tensor(b!)? partial, int channels, int inner, "
      "int act, int order, bool from_output, float slope, float gain, float clamp) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) { m.impl("bias_act_native", TORCH_BOX(&gancore::bias_act_native)); }
