// CPU kernels of kernels/batch_norm_act, which states the maths: the statistics of each channel, normalisation with an activation, and the
// two passes of its derivative. A tensor is walked in strips: columns that lie side by side, down many rows, so that coefficients and sums
// stay in registers. Columns belong to channels where these lie innermost or images are small; else a strip is of one channel.
#include "activations.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

enum Pass { kMoments, kApply, kSums, kGrad };
// Rows of coefficients: u = x scale + shift, e = x - mean; offset and multiple of e are subtracted from the gradient in training.
enum Coefficient { kMean, kScale, kShift, kOffset, kMultiple, kCoefficients };

constexpr bool summed(Pass pass) { return pass == kMoments || pass == kSums; }
constexpr bool needed(Pass pass, int64_t row) {
  return pass == kGrad || (pass == kMoments ? row == kMean : row == kScale || row == kShift || (row == kMean && pass == kSums));
}

template <class T> constexpr int64_t kLanes = 256 / sizeof(T);  // columns of a strip
constexpr int64_t kRun = 64;                                    // rows whose sums are formed in the type computed in
constexpr int64_t kLongImage = 64, kWidest = 1 << 14;
// The parts of a sum are as many as the size alone tells: the same bits on any number of threads.
constexpr int64_t kUnit = 1 << 16, kParts = 64;
constexpr int64_t kSamples = 16;  // rows whose mean the moments of a unit are formed about

struct Job {
  const void *x, *g;
  void* out;
  const void* coefficients;  // rows of them, (rows, channels), in the type computed in
  int64_t numel, channels, inner, coefficient_rows, act;
  double slope;
};

// Elements begin to begin + size, of channels first to last.
struct Unit { int64_t begin, size, first, last; };

// How a tensor is cut into units: stretches of one channel's plane, taken as rows of a strip's width, or rows of whole periods of channels.
template <class T> struct Cut {
  explicit Cut(const Job& job) : numel(job.numel), inner(job.inner), channels(job.channels), period(inner * channels) {
    plane = inner >= kLongImage || (inner > 1 && period > kWidest);
    const int64_t whole = std::lcm(period, kLanes<T>);  // where no strip is narrow
    width = plane ? kLanes<T> : whole <= std::min(kWidest, numel) ? whole : period;
    padded = (width + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    unit = plane ? std::min(inner, kUnit) : width * std::max<int64_t>(1, kUnit / width);
    each_plane = (inner + unit - 1) / unit;
    units = plane ? numel / inner * each_plane : (numel + unit - 1) / unit;
  }
  Unit at(int64_t number) const {
    if (!plane) return {number * unit, std::min(unit, numel - number * unit), 0, channels};
    const int64_t along = number / each_plane, begin = (number - along * each_plane) * unit, c = along % channels;
    return {along * inner + begin, std::min(unit, inner - begin), c, c + 1};
  }
  int64_t columns(const Unit& u) const { return std::min(u.size, width); }

  // visit(column, its channel).
  template <class Visit> GANCORE_INLINE void each(const Unit& u, Visit visit) const {
    const int64_t end = columns(u), wide = plane ? end : inner, step = plane ? end : period;
    for (int64_t base = 0; base < end; base += step)
      for (int64_t c = u.first; c < u.last; ++c) {
        const int64_t at = base + (c - u.first) * wide;
        for (int64_t i = at; i < at + wide; ++i) visit(i, c);
      }
  }

  int64_t numel, inner, channels, period, width, padded, unit, each_plane, units;
  bool plane;
};

// Coefficients of every column, by plane of every channel.
template <class T> struct Columns {
  Columns(const Job& job, const Cut<T>& cut) : size(cut.plane ? cut.channels : cut.padded), of(kCoefficients * size) {
    const T* from = static_cast<const T*>(job.coefficients);
    const int64_t columns = cut.plane ? size : cut.width, wide = cut.plane ? 1 : cut.inner;
    for (int64_t k = 0; k < job.coefficient_rows; ++k)
      for (int64_t base = 0; base < columns; base += cut.channels * wide)
        for (int64_t c = 0; c < cut.channels; ++c) std::fill_n(of.data() + k * size + base + c * wide, wide, from[k * cut.channels + c]);
  }
  T* row(int64_t k) { return of.data() + k * size; }
  const T* row(int64_t k) const { return of.data() + k * size; }

  int64_t size;
  std::vector<T> of;
};

template <class T> using Strip = T[kCoefficients][kLanes<T>];

// What one element of column i gives: `one` and `two` are summed, or the result is stored.
template <class S, Pass pass, Act act, class T>
GANCORE_INLINE void element(const S* x, const S* g, S* out, const Strip<T>& by, int64_t i, T slope, Word<T> training, T& one, T& two) {
  const T v = load(*x);
  if constexpr (pass == kMoments) {
    one = v - by[kMean][i], two = one * one;
  } else {
    const T u = v * by[kScale][i] + by[kShift][i], a = value<act>(u, slope);
    if constexpr (pass == kApply) {
      store(*out, a);
    } else {
      const T d = first<act>(load(*g), u, a, slope), e = v - by[kMean][i];
      if constexpr (pass == kSums) one = d, two = d * e;
      // A mask, since 0 times an infinite e is none.
      if constexpr (pass == kGrad) store(*out, d * by[kScale][i] - bits<T>(bits<Word<T>>(by[kOffset][i] + e * by[kMultiple][i]) & training));
    }
  }
}

// At most kRun rows of a strip; adds to sums (2, lanes) of its first `wide` columns.
template <class S, Pass pass, Act act, class T>
GANCORE_INLINE void run_of(const S* x, const S* g, S* out, int64_t stride, int64_t rows, int64_t wide, const Strip<T>& by, const Job& job,
                           double* sums) {
  constexpr int64_t n = kLanes<T>;
  const T slope = T(job.slope);
  const Word<T> training = job.coefficient_rows == kCoefficients ? ~Word<T>(0) : 0;
  T one[n] = {}, two[n] = {};
  for (int64_t at = 0; at < rows * stride; at += stride) {
    LOOP {
      T a = T(0), b = T(0);
      element<S, pass, act, T>(x + at + i, g + at + i, out + at + i, by, i, slope, training, a, b);
      if constexpr (summed(pass)) one[i] += a, two[i] += b;
    }
  }
  if constexpr (summed(pass)) {
    if (wide == n) LOOP sums[i] += double(one[i]), sums[n + i] += double(two[i]);
    else for (int64_t i = 0; i < wide; ++i) sums[i] += double(one[i]), sums[n + i] += double(two[i]);
  }
}

// `wide` of n elements, and zeros.
template <int64_t n, class S> GANCORE_INLINE void copy_row(S* to, const S* from, int64_t wide) {
  std::memcpy(to, from, wide * sizeof(S));
  std::memset(to + wide, 0, (n - wide) * sizeof(S));
}

// The sum of `size` numbers.
template <int64_t size, class T> GANCORE_INLINE T total(const T* of) {
  constexpr int64_t n = 8;
  T part[n] = {};
  for (int64_t at = 0; at < size; at += n) LOOP part[i] += of[at + i];
  return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
}

// A unit, strip by strip; of one narrower than the rest the kernel sees a copy. sums: (strips, 2, lanes).
template <class S, Pass pass, Act act, class T>
GANCORE_INLINE void strips(const Job& job, const Cut<T>& cut, const Unit& unit, const Columns<T>& columns, double* sums) {
  constexpr int64_t n = kLanes<T>;
  const int64_t whole = unit.size / cut.width, rest = unit.size % cut.width;
  S xs[kRun * n], gs[kRun * n], outs[kRun * n];
  Strip<T> by;
  for (int64_t base = 0; base < cut.width; base += n) {
    for (int64_t k = 0; k < kCoefficients; ++k) {
      if (!needed(pass, k)) continue;
      const T *from = columns.row(k) + base, one = columns.row(k)[unit.first];
      if (cut.plane) LOOP by[k][i] = one;
      else LOOP by[k][i] = from[i];
    }
    for (int64_t row = 0, rows = 0; row <= whole; row += rows) {
      // The last row may be shorter than the others.
      const int64_t wide = std::min(n, (row < whole ? cut.width : rest) - base), at = unit.begin + row * cut.width + base;
      rows = row < whole ? std::min(kRun, whole - row) : 1;
      if (wide <= 0) continue;
      const S *x = static_cast<const S*>(job.x) + at, *g = static_cast<const S*>(job.g) + at;
      S* out = static_cast<S*>(job.out) + at;
      const bool narrow = wide < n;
      if (narrow)
        for (int64_t r = 0; r < rows; ++r) {
          copy_row<n>(xs + r * n, x + r * cut.width, wide);
          if (pass == kSums || pass == kGrad) copy_row<n>(gs + r * n, g + r * cut.width, wide);
        }
      run_of<S, pass, act, T>(narrow ? xs : x, narrow ? gs : g, narrow ? outs : out, narrow ? n : cut.width, rows, wide, by,
                               job, sums + 2 * base);
      if (narrow && !summed(pass))
        for (int64_t r = 0; r < rows; ++r) std::memcpy(out + r * cut.width, outs + r * n, wide * sizeof(S));
    }
  }
}

// What one thread needs for sums.
template <class T> struct Space {
  Space(const Columns<T>& columns, const Cut<T>& cut) : cut(cut), by(columns), sums(2 * cut.padded), of(2 * cut.channels), near(cut.channels) {}

  // Moves what the columns of a unit summed into `to` (2, channels).
  GANCORE_INLINE void fold(const Unit& unit, double* to) {
    constexpr int64_t n = kLanes<T>;
    if (cut.plane) {
      to[unit.first] += total<n>(sums.data()), to[cut.channels + unit.first] += total<n>(sums.data() + n);
      std::fill_n(sums.begin(), 2 * n, 0.0);
      return;
    }
    cut.each(unit, [&](int64_t i, int64_t c) GANCORE_LAMBDA {
      const double* at = sums.data() + i / n * 2 * n + i % n;
      to[c] += at[0], to[cut.channels + c] += at[n];
    });
    std::fill(sums.begin(), sums.end(), 0.0);
  }

  const Cut<T>& cut;
  Columns<T> by;
  std::vector<double> sums, of, near;
};

// Sums of x and its square about a number near the mean, that of some rows, so that nothing cancels; merged with the moments so far by the
// rule of Chan, Golub and LeVeque (1983). to: (3, channels): count, mean, squares.
template <class S, class T> GANCORE_INLINE void moments(const Job& job, const Unit& unit, Space<T>& space, double* to) {
  const Cut<T>& cut = space.cut;
  const int64_t channels = cut.channels, first = unit.first, last = unit.last, rows = std::max<int64_t>(1, unit.size / cut.width);
  const int64_t samples = std::clamp<int64_t>(rows / 8, 1, kSamples);
  double *near = space.near.data(), *sums = space.of.data();
  std::fill(near + first, near + last, 0.0);
  for (int64_t sample = 0; sample < samples; ++sample) {
    const S* x = static_cast<const S*>(job.x) + unit.begin + sample * rows / samples * cut.width;
    if (cut.plane && unit.size >= kLanes<T>) {
      T row[kLanes<T>];
      for (int64_t i = 0; i < kLanes<T>; ++i) row[i] = load(x[i]);
      near[first] += double(total<kLanes<T>>(row));
    } else {
      cut.each(unit, [&](int64_t i, int64_t c) GANCORE_LAMBDA { near[c] += double(load(x[i])); });
    }
  }
  const double share = double(last - first) / double(samples * cut.columns(unit));
  for (int64_t c = first; c < last; ++c) near[c] = double(T(near[c] * share)), sums[c] = sums[channels + c] = 0;
  T* about = space.by.row(kMean);
  if (cut.plane) about[first] = T(near[first]);
  else cut.each(unit, [&](int64_t i, int64_t c) GANCORE_LAMBDA { about[i] = T(near[c]); });
  strips<S, kMoments, kLinear>(job, cut, unit, space.by, space.sums.data());
  space.fold(unit, sums);
  double *count = to, *mean = to + channels, *squares = to + 2 * channels;
  const double n = double(unit.size / (last - first));
  for (int64_t c = first; c < last; ++c) {
    const double rest = sums[c] / n, apart = near[c] + rest - mean[c], all = count[c] + n;
    squares[c] += sums[channels + c] - rest * rest * n + apart * apart * (count[c] * n / all);
    mean[c] += apart * (n / all), count[c] = all;
  }
}

template <class S, Pass pass, class T>
GANCORE_INLINE void by_act(const Job& job, const Cut<T>& cut, const Unit& unit, const Columns<T>& columns, double* sums) {
  switch (job.act) {
    case kRelu: return strips<S, pass, kRelu>(job, cut, unit, columns, sums);
    case kLeakyRelu: return strips<S, pass, kLeakyRelu>(job, cut, unit, columns, sums);
    case kElu: return strips<S, pass, kElu>(job, cut, unit, columns, sums);
    case kSilu: return strips<S, pass, kSilu>(job, cut, unit, columns, sums);
    case kTanh: return strips<S, pass, kTanh>(job, cut, unit, columns, sums);
    case kSigmoid: return strips<S, pass, kSigmoid>(job, cut, unit, columns, sums);
    case kSoftplus: return strips<S, pass, kSoftplus>(job, cut, unit, columns, sums);
    default: return strips<S, pass, kLinear>(job, cut, unit, columns, sums);
  }
}

// Units begin to end of a pass; to: (2, channels), of kMoments (3, channels).
template <class S, class T>
GANCORE_INLINE void span(const Job& job, const Cut<T>& cut, const Columns<T>& columns, Pass pass, int64_t begin, int64_t end, double* to) {
  if (pass == kApply || pass == kGrad) {
    for (int64_t u = begin; u < end; ++u)
      pass == kApply ? by_act<S, kApply>(job, cut, cut.at(u), columns, nullptr) : by_act<S, kGrad>(job, cut, cut.at(u), columns, nullptr);
    return;
  }
  Space<T> space(columns, cut);
  for (int64_t u = begin; u < end; ++u) {
    const Unit unit = cut.at(u);
    pass == kMoments ? moments<S>(job, unit, space, to) : (by_act<S, kSums>(job, cut, unit, columns, space.sums.data()), space.fold(unit, to));
  }
}

// target_clones does not apply to templates.
#define GANCORE_SPAN(S, T)                                                                                                           \
  GANCORE_CLONES void span_of(S, const Job& job, const Cut<T>& cut, const Columns<T>& by, Pass pass, int64_t begin, int64_t end, double* to) { \
    span<S>(job, cut, by, pass, begin, end, to);                                                                                      \
  }
GANCORE_SPAN(float, float)
GANCORE_SPAN(double, double)
GANCORE_SPAN(Bf16, float)
GANCORE_SPAN(Half, float)

// Sums come in parts of (numbers, channels), one after the other.
std::vector<double> run(const Job& job, Pass pass, ScalarType type, int64_t numbers) {
  std::vector<double> sums;
  if (!job.numel) return sums;
  by_dtype(type, "batch_norm_act", [&](auto stored) {
    using T = typename Compute<decltype(stored)>::type;
    const Cut<T> cut(job);
    const Columns<T> columns(job, cut);
    const int64_t each = (cut.units + kParts - 1) / kParts, parts = (cut.units + each - 1) / each, size = numbers * job.channels;
    sums.resize(parts * size);
    torch::stable::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part)
        span_of(stored, job, cut, columns, pass, part * each, std::min((part + 1) * each, cut.units), sums.data() + part * size);
    });
  });
  return sums;
}

template <class T> const T* data(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }

template <class Run> void by_wide(ScalarType type, Run run) { type == ScalarType::Double ? run(double{}) : run(float{}); }

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

// Rows kMean to kShift of `by`, from (channels,) tensors of its type.
void coefficients_native(const Tensor mean, const Tensor var, std::optional<Tensor> weight, std::optional<Tensor> bias, double eps, Tensor by) {
  by_wide(by.scalar_type(), [&](auto kind) {
    using T = decltype(kind);
    const int64_t channels = by.size(1);
    const T *m = data<T>(mean), *v = data<T>(var), *w = weight ? data<T>(*weight) : nullptr, *b = bias ? data<T>(*bias) : nullptr;
    T* to = static_cast<T*>(by.mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) {
      const T scale = (w ? w[c] : T(1)) / std::sqrt(v[c] + T(eps));
      to[kMean * channels + c] = m[c], to[kScale * channels + c] = scale;
      to[kShift * channels + c] = (b ? b[c] : T(0)) - m[c] * scale;
    }
  });
}

// From the sums (2, channels) of the gradient's first pass: the gradients of weight and bias where wanted, and where `by` has them rows kOffset
// and kMultiple, of the sums of all ranks and their count.
void gradients_native(const Tensor sums, const Tensor all, double count, const Tensor var, double eps, Tensor by, std::optional<Tensor> weight,
                      std::optional<Tensor> bias) {
  by_wide(by.scalar_type(), [&](auto kind) {
    using T = decltype(kind);
    const int64_t channels = by.size(1);
    const double *own = data<double>(sums), *total = data<double>(all);
    const T* v = data<T>(var);
    T* to = static_cast<T*>(by.mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) {
      const double variance = double(v[c]) + eps, scale = double(to[kScale * channels + c]);
      if (weight) static_cast<T*>(weight->mutable_data_ptr())[c] = T(own[channels + c] / std::sqrt(variance));
      if (bias) static_cast<T*>(bias->mutable_data_ptr())[c] = T(own[c]);
      if (by.size(0) < kCoefficients) continue;
      to[kOffset * channels + c] = T(scale * (total[c] / count));
      to[kMultiple * channels + c] = T(scale * (total[channels + c] / count) / variance);
    }
  });
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
      "batch_norm_act_coefficients_native(Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, Tensor(a!) by) -> ()");
  m.def(
      "batch_norm_act_gradients_native(Tensor sums, Tensor all, float count, Tensor var, float eps, Tensor(a!) by, Tensor(b!)? weight, "
      "Tensor(c!)? bias) -> ()");
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
  m.impl("batch_norm_act_coefficients_native", TORCH_BOX(&gancore::coefficients_native));
  m.impl("batch_norm_act_gradients_native", TORCH_BOX(&gancore::gradients_native));
  m.impl("batch_norm_act_native", TORCH_BOX(&gancore::apply_native));
  m.impl("batch_norm_act_sums_native", TORCH_BOX(&gancore::sums_native));
  m.impl("batch_norm_act_grad_native", TORCH_BOX(&gancore::grad_native));
}
