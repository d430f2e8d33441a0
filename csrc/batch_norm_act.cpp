// CPU kernels of kernels/batch_norm_act, which states the maths: the statistics of each channel, normalisation with an activation, and the
// two passes of its derivative. A tensor is walked in rows over which the coefficients of its channels repeat, so that one loop serves
// channels_last and small images alike; in large images a channel's coefficients stay in registers.
#include "activations.h"

#include <algorithm>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

enum Pass { kTotal, kMoments, kApply, kSums, kGrad };
// Rows of coefficients: u = (x - mean) scale + shift; the last two are subtracted from the gradient in training.
enum Coefficient { kMean, kScale, kShift, kOffset, kSlope, kCoefficients };

constexpr int64_t kRow = 1024, kLongImage = 64, kLanes = 32;
// A unit of elements stays in a core's second cache. The parts of a sum are as many as the size alone tells: the same bits on any number
// of threads.
constexpr int64_t kUnit = 1 << 15, kParts = 64;

struct Job {
  const void *x, *g;
  void* out;
  const void* coefficients;  // rows of them, (rows, channels), in the type computed in
  int64_t numel, channels, inner, coefficient_rows, act;
  double slope;

  bool training() const { return coefficient_rows == kCoefficients; }
  // Images too long for their coefficients to be repeated are walked plane by plane.
  bool by_plane() const { return inner >= kLongImage || (inner > 1 && channels * inner > 8 * kRow); }
  int64_t row() const { return channels * inner * std::max<int64_t>(1, kRow / (channels * inner)); }
  int64_t unit() const { return by_plane() ? std::min(inner, kUnit) : row() * std::max<int64_t>(1, kUnit / row()); }
  int64_t units() const {
    return by_plane() ? numel / inner * ((inner + unit() - 1) / unit()) : (numel + unit() - 1) / unit();
  }
};

// A unit: one channel's stretch of a plane, or rows of all channels.
struct Stretch { int64_t begin, size, first, last, count; };

GANCORE_INLINE Stretch stretch(const Job& job, int64_t number) {
  const int64_t unit = job.unit(), each = (job.inner + unit - 1) / unit;
  if (!job.by_plane()) {
    const int64_t size = std::min(unit, job.numel - number * unit);
    return {number * unit, size, 0, job.channels, size / job.channels};
  }
  const int64_t plane = number / each, at = number % each * unit, c = plane % job.channels, size = std::min(unit, job.inner - at);
  return {plane * job.inner + at, size, c, c + 1, size};
}

// What one thread needs: coefficients and sums of a row's elements, or of channels where it goes by plane.
template <class T> struct Space {
  explicit Space(const Job& job)
      : size(job.by_plane() ? job.channels : job.row()), of(kCoefficients * size), one(size), two(size), sums(2 * job.channels) {
    const T* from = static_cast<const T*>(job.coefficients);
    for (int64_t k = 0; k < job.coefficient_rows; ++k)
      each(job, 0, job.channels, [&](int64_t i, int64_t c) { at(k)[i] = from[k * job.channels + c]; });
  }
  T* at(int64_t row) { return of.data() + row * size; }

  // visit(element of the row, its channel) for some channels.
  template <class Visit> GANCORE_INLINE void each(const Job& job, int64_t first, int64_t last, Visit visit) const {
    const int64_t inner = job.by_plane() ? 1 : job.inner, period = job.channels * inner;
    for (int64_t base = 0; base < size; base += period)
      for (int64_t c = first; c < last; ++c)
        for (int64_t i = base + c * inner; i < base + (c + 1) * inner; ++i) visit(i, c);
  }

  // Moves what a unit summed into `to` (2, channels).
  GANCORE_INLINE void fold(const Job& job, const Stretch& s, double* to) {
    each(job, s.first, s.last, [&](int64_t i, int64_t c) GANCORE_LAMBDA {
      to[c] += double(one[i]), to[job.channels + c] += double(two[i]);
      one[i] = two[i] = T(0);
    });
  }

  int64_t size;
  std::vector<T> of, one, two;
  std::vector<double> sums;
};

template <class T> struct Numbers { T mean, scale, shift, offset, slope_of, slope; };

// What one element gives: `one` and `two` are summed, or `one` is the result.
template <class S, Pass pass, Act act, bool training, class T>
GANCORE_INLINE void element(const S* x, const S* g, S* out, const Numbers<T>& by, T& one, T& two) {
  const T apart = load(*x) - by.mean;
  if constexpr (pass == kTotal) {
    one = apart;
  } else if constexpr (pass == kMoments) {
    one = apart, two = apart * apart;
  } else {
    const T u = apart * by.scale + by.shift, a = value<act>(u, by.slope);
    if constexpr (pass == kApply) {
      store(*out, a);
    } else {
      const T d = first<act>(load(*g), u, a, by.slope);
      if constexpr (pass == kSums) one = d, two = d * apart;
      if constexpr (pass == kGrad && training) store(*out, d * by.scale - by.offset - apart * by.slope_of);
      if constexpr (pass == kGrad && !training) store(*out, d * by.scale);
    }
  }
}

constexpr bool summed(Pass pass) { return pass != kApply && pass != kGrad; }

template <class S, Pass pass, Act act, bool training, class T>
GANCORE_INLINE void rows(const Job& job, const Stretch& s, Space<T>& space) {
  const T slope = T(job.slope), *mean = space.at(kMean), *scale = space.at(kScale), *shift = space.at(kShift);
  const T *offset = space.at(kOffset), *slope_of = space.at(kSlope);
  T *one = space.one.data(), *two = space.two.data();
  for (int64_t at = 0; at < s.size; at += space.size) {
    const int64_t n = std::min(space.size, s.size - at);
    const S *x = static_cast<const S*>(job.x) + s.begin + at, *g = static_cast<const S*>(job.g) + s.begin + at;
    S* out = static_cast<S*>(job.out) + s.begin + at;
    LOOP {
      T a = T(0), b = T(0);
      element<S, pass, act, training, T>(x + i, g + i, out + i, {mean[i], scale[i], shift[i], offset[i], slope_of[i], slope}, a, b);
      if constexpr (summed(pass)) one[i] += a;
      if constexpr (summed(pass) && pass != kTotal) two[i] += b;
    }
  }
}

template <class S, Pass pass, Act act, bool training, class T>
GANCORE_INLINE void plane(const Job& job, const Stretch& s, Space<T>& space) {
  const int64_t c = s.first;
  const Numbers<T> by{space.at(kMean)[c],   space.at(kScale)[c], space.at(kShift)[c],
                      space.at(kOffset)[c], space.at(kSlope)[c], T(job.slope)};
  const S *x = static_cast<const S*>(job.x) + s.begin, *g = static_cast<const S*>(job.g) + s.begin;
  S* out = static_cast<S*>(job.out) + s.begin;
  T one[kLanes] = {}, two[kLanes] = {};
  auto step = [&](int64_t at, int64_t n) GANCORE_LAMBDA {
    LOOP {
      T a = T(0), b = T(0);
      element<S, pass, act, training, T>(x + at + i, g + at + i, out + at + i, by, a, b);
      if constexpr (summed(pass)) one[i] += a;
      if constexpr (summed(pass) && pass != kTotal) two[i] += b;
    }
  };
  int64_t at = 0;
  for (; at + kLanes <= s.size; at += kLanes) step(at, kLanes);
  step(at, s.size - at);
  if constexpr (summed(pass)) {
    for (int64_t n = kLanes / 2; n > 0; n /= 2) LOOP one[i] += one[i + n], two[i] += two[i + n];
    space.one[c] += one[0], space.two[c] += two[0];
  }
}

template <class S, Pass pass, Act act, bool training, class T>
GANCORE_INLINE void go(const Job& job, const Stretch& s, Space<T>& space) {
  job.by_plane() ? plane<S, pass, act, training>(job, s, space) : rows<S, pass, act, training>(job, s, space);
}

// The mean of each channel of a unit, then the squares of the distances from it, which nothing cancels; merged with those so far by the
// rule of Chan, Golub and LeVeque (1983). to: (3, channels): count, mean, squares.
template <class S, class T> GANCORE_INLINE void moments(const Job& job, const Stretch& s, Space<T>& space, double* to) {
  const int64_t channels = job.channels;
  double *count = to, *mean = to + channels, *squares = to + 2 * channels, *sums = space.sums.data();
  const double n = double(s.count);
  auto clear = [&]() GANCORE_LAMBDA { for (int64_t c = s.first; c < s.last; ++c) sums[c] = sums[channels + c] = 0; };
  auto center = [&](auto of) GANCORE_LAMBDA {
    space.each(job, s.first, s.last, [&](int64_t i, int64_t c) GANCORE_LAMBDA { space.at(kMean)[i] = of(c); });
  };
  clear(), center([](int64_t) GANCORE_LAMBDA { return T(0); });
  go<S, kTotal, kLinear, false>(job, s, space);
  space.fold(job, s, sums);
  center([&](int64_t c) GANCORE_LAMBDA { return T(sums[c] / n); });
  clear();
  go<S, kMoments, kLinear, false>(job, s, space);
  space.fold(job, s, sums);
  const int64_t step = job.by_plane() ? 1 : job.inner;
  for (int64_t c = s.first; c < s.last; ++c) {
    const double rest = sums[c] / n, here = double(space.at(kMean)[c * step]) + rest, apart = here - mean[c], all = count[c] + n;
    squares[c] += sums[channels + c] - rest * rest * n + apart * apart * count[c] * n / all;
    mean[c] += apart * n / all, count[c] = all;
  }
}

template <class S, Pass pass, class T> GANCORE_INLINE void by_act(const Job& job, const Stretch& s, Space<T>& space) {
  auto run = [&](auto act) GANCORE_LAMBDA {
    if constexpr (pass == kGrad) {
      if (job.training()) return go<S, pass, decltype(act)::value, true>(job, s, space);
    }
    go<S, pass, decltype(act)::value, false>(job, s, space);
  };
  switch (job.act) {
    case kRelu: return run(std::integral_constant<Act, kRelu>{});
    case kLeakyRelu: return run(std::integral_constant<Act, kLeakyRelu>{});
    case kElu: return run(std::integral_constant<Act, kElu>{});
    case kSilu: return run(std::integral_constant<Act, kSilu>{});
    case kTanh: return run(std::integral_constant<Act, kTanh>{});
    case kSigmoid: return run(std::integral_constant<Act, kSigmoid>{});
    case kSoftplus: return run(std::integral_constant<Act, kSoftplus>{});
    default: return run(std::integral_constant<Act, kLinear>{});
  }
}

// Units begin to end of a pass; to: (2, channels), of kMoments (3, channels), or null where nothing is summed.
template <class S> GANCORE_INLINE void span(const Job& job, Pass pass, int64_t begin, int64_t end, double* to) {
  Space<typename Compute<S>::type> space(job);
  for (int64_t unit = begin; unit < end; ++unit) {
    const Stretch s = stretch(job, unit);
    if (pass == kMoments) moments<S>(job, s, space, to);
    if (pass == kApply) by_act<S, kApply>(job, s, space);
    if (pass == kGrad) by_act<S, kGrad>(job, s, space);
    if (pass == kSums) by_act<S, kSums>(job, s, space), space.fold(job, s, to);
  }
}

// target_clones does not apply to templates.
GANCORE_CLONES void span_of(float, const Job& job, Pass pass, int64_t begin, int64_t end, double* to) { span<float>(job, pass, begin, end, to); }
GANCORE_CLONES void span_of(double, const Job& job, Pass pass, int64_t begin, int64_t end, double* to) { span<double>(job, pass, begin, end, to); }
GANCORE_CLONES void span_of(Bf16, const Job& job, Pass pass, int64_t begin, int64_t end, double* to) { span<Bf16>(job, pass, begin, end, to); }
GANCORE_CLONES void span_of(Half, const Job& job, Pass pass, int64_t begin, int64_t end, double* to) { span<Half>(job, pass, begin, end, to); }

// Sums come in parts of (numbers, channels), one after the other.
std::vector<double> run(const Job& job, Pass pass, ScalarType type, int64_t numbers) {
  const int64_t units = job.numel ? job.units() : 0, each = std::max<int64_t>(1, (units + kParts - 1) / kParts);
  const int64_t parts = (units + each - 1) / each, size = numbers * job.channels;
  std::vector<double> sums(parts * size);
  by_dtype(type, "batch_norm_act", [&](auto stored) {
    torch::stable::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      if (!numbers) return span_of(stored, job, pass, first * each, std::min(last * each, units), nullptr);
      for (int64_t part = first; part < last; ++part)
        span_of(stored, job, pass, part * each, std::min((part + 1) * each, units), sums.data() + part * size);
    });
  });
  return sums;
}

Job job_of(const Tensor& x, int64_t channels, int64_t inner) {
  return {x.const_data_ptr(), nullptr, nullptr, nullptr, int64_t(x.numel()), channels, inner, 0, kLinear, 0.0};
}

Job job_of(const Tensor& x, const Tensor& coefficients, int64_t channels, int64_t inner, int64_t act, double slope) {
  Job job = job_of(x, channels, inner);
  job.coefficients = coefficients.const_data_ptr(), job.coefficient_rows = coefficients.size(0), job.act = act, job.slope = slope;
  return job;
}

// Tensors are dense, of one dtype and of x's strides. moments (2, channels) double receives mean and sum of squares about it.
void moments_native(const Tensor x, Tensor moments, int64_t channels, int64_t inner) {
  const std::vector<double> parts = run(job_of(x, channels, inner), kMoments, x.scalar_type(), 3);
  double *mean = static_cast<double*>(moments.mutable_data_ptr()), *squares = mean + channels;
  std::fill(mean, mean + 2 * channels, 0.0);
  std::vector<double> count(channels);
  for (size_t part = 0; part < parts.size(); part += 3 * channels)
    for (int64_t c = 0; c < channels; ++c) {
      const double n = parts[part + c], apart = parts[part + channels + c] - mean[c], all = count[c] + n;
      if (n == 0) continue;
      squares[c] += parts[part + 2 * channels + c] + apart * apart * count[c] * n / all;
      mean[c] += apart * n / all, count[c] = all;
    }
}

void apply_native(const Tensor x, const Tensor coefficients, Tensor out, int64_t channels, int64_t inner, int64_t act, double slope) {
  Job job = job_of(x, coefficients, channels, inner, act, slope);
  job.out = out.mutable_data_ptr();
  run(job, kApply, x.scalar_type(), 0);
}

// sums (2, channels) double receives those of d and of d (x - mean).
void sums_native(const Tensor g, const Tensor x, const Tensor coefficients, Tensor sums, int64_t channels, int64_t inner, int64_t act,
                 double slope) {
  Job job = job_of(x, coefficients, channels, inner, act, slope);
  job.g = g.const_data_ptr();
  const std::vector<double> parts = run(job, kSums, x.scalar_type(), 2);
  double* to = static_cast<double*>(sums.mutable_data_ptr());
  std::fill(to, to + 2 * channels, 0.0);
  for (size_t at = 0; at < parts.size(); ++at) to[at % (2 * channels)] += parts[at];
}

void grad_native(const Tensor g, const Tensor x, const Tensor coefficients, Tensor out, int64_t channels, int64_t inner, int64_t act,
                 double slope) {
  Job job = job_of(x, coefficients, channels, inner, act, slope);
  job.g = g.const_data_ptr(), job.out = out.mutable_data_ptr();
  run(job, kGrad, x.scalar_type(), 0);
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def("batch_norm_moments_native(Tensor x, Tensor(a!) moments, int channels, int inner) -> ()");
  m.def(
      "batch_norm_act_native(Tensor x, Tensor coefficients, Tensor(a!) out, int channels, int inner, int act, float slope) -> ()");
  m.def(
      "batch_norm_act_sums_native(Tensor g, Tensor x, Tensor coefficients, Tensor(a!) sums, int channels, int inner, int act, float slope) "
      "-> ()");
  m.def(
      "batch_norm_act_grad_native(Tensor g, Tensor x, Tensor coefficients, Tensor(a!) out, int channels, int inner, int act, float slope) "
      "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) {
  m.impl("batch_norm_moments_native", TORCH_BOX(&gancore::moments_native));
  m.impl("batch_norm_act_native", TORCH_BOX(&gancore::apply_native));
  m.impl("batch_norm_act_sums_native", TORCH_BOX(&gancore::sums_native));
  m.impl("batch_norm_act_grad_native", TORCH_BOX(&gancore::grad_native));
}
