// CPU kernels of kernels/kernel_sums, whose docstring states the maths. Matrix products are PyTorch's, called from native.py tile by
// tile; what is between them is here: a tile comes in as x y^T and leaves as the weights of the next product, in one pass.
#include "common.h"

#include <algorithm>
#include <cmath>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t j = 0; j < n; ++j)

namespace gancore {
namespace {

enum Kind { kGaussian, kRationalQuadratic, kInverseMultiquadric, kEnergy, kLaplacian, kPolynomial, kKinds = 8 };
enum Metric { kSquared, kAbsolute, kDot };

// A chunk of a row: its distances and what is made of them stay in the first cache.
constexpr int64_t kChunk = 512, kLanes = 16, kRows = 16;

// Below this share of |x|^2 + |y|^2 a squared distance taken from it has lost too many digits and is summed anew.
constexpr double kNear = 1. / 512;

struct Term { int kind, extra; double w, a, b; };

GANCORE_INLINE float exp_down(float x) {  // for x <= 0; below -87 it stays at e^-87
  const auto e = reduce(bounded(x, 87.f));
  const float scale = power_of_two(e.k);
  return nan_as(scale * e.p + scale, x);
}
GANCORE_INLINE double exp_down(double x) {
  const auto e = reduce(bounded(x, 708.));
  const double scale = power_of_two(e.k);
  return nan_as(scale * e.p + scale, x);
}

// log z for normal z > 0 and inf: 2 artanh of (m - 1) / (m + 1) for a mantissa m around 1.
template <class T> GANCORE_INLINE T log_(T z) {
  constexpr int digits = sizeof(T) == 4 ? 23 : 52, terms = sizeof(T) == 4 ? 5 : 11;
  using W = Word<T>;
  constexpr W half = sizeof(T) == 4 ? W(0x3f3504f3u) : W(0x3fe6a09e667f3bcdull);
  const W u = bits<W>(z) - half;
  const auto k = std::make_signed_t<W>(u) >> digits;
  const T m = bits<T>((u & ((W(1) << digits) - 1)) + half), s = (m - T(1)) / (m + T(1)), q = s * s;
  T p = T(1) / T(2 * terms + 1);
  for (int i = terms - 1; i >= 0; --i) p = p * q + T(1) / T(2 * i + 1);
  const T r = T(k) * T(0.69314718055994530942) + T(2) * s * p;
  return z > std::numeric_limits<T>::max() ? z : nan_as(r, z);
}

template <class T> GANCORE_INLINE T root(T x) {
  if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
  else return __builtin_sqrt(x);
}

// Adds one term to k, psi (the factor of the first derivative) and chi (of the second) over a chunk of distances. `e` carries the
// exponential from one Gaussian to the next.
template <int order, class T>
GANCORE_INLINE void add_term(const Term& t, int64_t n, const T* d, T* e, T* k, T* psi, T* chi) {
  const T w = T(t.w), a = T(t.a), b = T(t.b);
  if (t.kind == kGaussian) {
    const T rate = T(-0.5 / (t.a * t.a)), first = T(-t.w / (t.a * t.a)), second = T(t.w / (t.a * t.a * t.a * t.a));
    switch (t.extra) {
      case 0: LOOP e[j] = exp_down(d[j] * rate); break;
      case 1: LOOP e[j] = e[j] * e[j]; break;
      case 2: LOOP { const T s = e[j] * e[j]; e[j] = s * s; } break;
      default:
        for (int i = 0; i < t.extra; ++i) LOOP e[j] = e[j] * e[j];
    }
    LOOP {
      k[j] += w * e[j];
      if constexpr (order > 0) psi[j] += first * e[j];
      if constexpr (order > 1) chi[j] += second * e[j];
    }
  } else if (t.kind == kRationalQuadratic) {
    const T scale = T(0.5 / t.a), again = T((t.a + 1) / t.a);
    LOOP {
      const T z = T(1) + d[j] * scale, one = T(1) / z, v = w * exp_down(-a * log_(z));
      k[j] += v;
      if constexpr (order > 0) psi[j] -= v * one;
      if constexpr (order > 1) chi[j] += again * v * one * one;
    }
  } else if (t.kind == kInverseMultiquadric) {
    LOOP {
      const T one = T(1) / (a + d[j]), v = w * a * one;
      k[j] += v;
      if constexpr (order > 0) psi[j] -= T(2) * v * one;
      if constexpr (order > 1) chi[j] += T(8) * v * one * one;
    }
  } else if (t.kind == kEnergy) {
    // -d^h; at 0 the derivatives are taken as 0.
    const T h = a * T(0.5), second = T(4) * h * (h - T(1));
    const bool square_root = t.a == 1;
    LOOP {
      const bool zero = d[j] == T(0);
      const T apart = zero ? T(1) : d[j], one = T(1) / apart;
      const T power = square_root ? root(apart) : exp_(h * log_(apart));
      const T v = zero ? T(0) : -w * power;
      k[j] += v;
      if constexpr (order > 0) psi[j] += a * v * one;
      if constexpr (order > 1) chi[j] += second * v * one * one;
    }
  } else if (t.kind == kLaplacian) {
    const T rate = T(-1 / t.a), second = T(1 / (t.a * t.a));
    LOOP {
      const T v = w * exp_down(d[j] * rate);
      k[j] += v;
      if constexpr (order > 0) psi[j] += rate * v;
      if constexpr (order > 1) chi[j] += second * v;
    }
  } else {
    const int degree = t.extra;
    LOOP {
      const T z = a * d[j] + b;
      T low = T(1), lower = T(1);  // powers degree - 1 and, in the second order, degree - 2
      for (int i = 2; i < degree; ++i) lower *= z;
      low = degree > 1 ? lower * z : T(1);
      k[j] += w * low * z;
      if constexpr (order > 0) psi[j] += w * a * T(degree) * low;
      if constexpr (order > 1) chi[j] += w * a * a * T(degree) * T(degree - 1) * lower;
    }
  }
}

// c-weighted sums of the derivatives of one term's values by its weight and its own numbers.
template <class T> GANCORE_INLINE void add_parameters(const Term& t, int64_t n, const T* d, const T* c, double* sums) {
  double sum[3] = {};
  for (int64_t j = 0; j < n; ++j) {
    const double s = double(d[j]), a = t.a, by = double(c[j]);
    double k = 0, da = 0, db = 0;
    if (t.kind == kGaussian) {
      k = std::exp(-0.5 * s / (a * a)), da = k * s / (a * a * a);
    } else if (t.kind == kRationalQuadratic) {
      const double z = 1 + 0.5 * s / a;
      k = std::pow(z, -a), da = k * (0.5 * s / (a * z) - std::log(z));
    } else if (t.kind == kInverseMultiquadric) {
      k = a / (a + s), da = s / ((a + s) * (a + s));
    } else if (t.kind == kEnergy) {
      k = s == 0 ? 0 : -std::pow(s, a / 2), da = s == 0 ? 0 : k * 0.5 * std::log(s);
    } else if (t.kind == kLaplacian) {
      k = std::exp(-s / a), da = k * s / (a * a);
    } else {
      const double z = a * s + t.b, low = std::pow(z, t.extra - 1);
      k = low * z, da = t.extra * low * s, db = t.extra * low;
    }
    if (by != 0) sum[0] += by * k, sum[1] += by * t.w * da, sum[2] += by * t.w * db;
  }
  for (int i = 0; i < 3; ++i) sums[i] += sum[i];
}

template <class T> struct Tile {
  T *d, *p;             // (rows, cols): products or distances, which become weights; the tangents' products with the differences
  const T *x, *y;       // (rows, features) and (cols, features)
  const T *px, *py;     // their tangents, or null
  const T *xn, *yn;     // |x|^2 and |y|^2 where d holds products of x and y, null where it holds what the kernels take
  const T *xp, *yp;     // px . x and py . y likewise
  const T *u, *v;       // (rows,) and (cols,), whose products weigh the pairs, or null
  const T *pu, *pv;
  const T *c, *pc;      // (rows, cols), the pairs' weights and their tangents where there are no u and v
  T *k, *q;             // (rows, cols): what becomes of values, and of psi p, or null
  double* rows;         // (rows, 3)
  int64_t cols, features, ld, diagonal;  // diagonal: column minus row where a point meets itself, or out of reach
  int metric;
  bool drop, parameters;  // whether a point does not meet itself; whether derivatives by the kernel's numbers are wanted
  std::vector<Term> terms;
};

template <class T> GANCORE_INLINE T total(const T* v, int64_t n) {
  T lanes[kLanes] = {};
  int64_t at = 0;
  for (; at + kLanes <= n; at += kLanes)
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] += v[at + i];
  T sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  for (; at < n; ++at) sum += v[at];
  return sum;
}

template <class T> GANCORE_INLINE T dot(const T* a, const T* b, int64_t n) {
  T lanes[kLanes] = {};
  int64_t at = 0;
  for (; at + kLanes <= n; at += kLanes)
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] += a[at + i] * b[at + i];
  T sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  for (; at < n; ++at) sum += a[at] * b[at];
  return sum;
}

// From products to squared distances of row i and columns from `at`; and of the tangents' inner products with the differences.
template <class T> GANCORE_INLINE void to_distances(const Tile<T>& t, int64_t i, int64_t at, int64_t n, T* d, T* p) {
  const T xn = t.xn[i];
  const T* yn = t.yn + at;
  int near = 0;
  LOOP {
    const T size = xn + yn[j], r = size - T(2) * d[j];
    d[j] = r < T(0) ? T(0) : r;
    near |= r < T(kNear) * size;
  }
  if (p) {
    const T xp = t.xp ? t.xp[i] : T(0);
    LOOP p[j] = xp - p[j];
    if (t.yp) LOOP p[j] += t.yp[at + j];
  }
  if (sizeof(T) > 4 || !near) return;
  const T* x = t.x + i * t.features;
  for (int64_t j = 0; j < n; ++j) {
    if (!(d[j] < T(kNear) * (xn + yn[j]))) continue;
    const T* y = t.y + (at + j) * t.features;
    T lanes[kLanes] = {};
    int64_t f = 0;
    for (; f + kLanes <= t.features; f += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += (x[f + l] - y[f + l]) * (x[f + l] - y[f + l]);
    T sum = 0, inner = 0;
    for (int64_t l = 0; l < kLanes; ++l) sum += lanes[l];
    for (; f < t.features; ++f) sum += (x[f] - y[f]) * (x[f] - y[f]);
    d[j] = sum;
    if (!p) continue;
    for (f = 0; f < t.features; ++f) {
      const T px = t.px ? t.px[i * t.features + f] : T(0), py = t.py ? t.py[(at + j) * t.features + f] : T(0);
      inner += (px - py) * (x[f] - y[f]);
    }
    p[j] = inner;
  }
}

enum Sum { kValues, kWeights, kSeconds, kSums };  // row and column sums: of values, of the weights of x - y, of those of px - py

// Rows [from, to) of a tile. order 0: k is all. 1: d becomes c psi, the weight of x - y in the gradient. 2: d becomes
// pc psi + c chi p, the weight of x - y in the second derivative, and p becomes c psi, that of px - py.
template <int order, class T> GANCORE_INLINE void rows_of(const Tile<T>& t, int64_t from, int64_t to, T* columns, double* sums) {
  T e[kChunk], k[kChunk], psi[kChunk], chi[kChunk], c[kChunk], pc[kChunk];
  for (int64_t i = from; i < to; ++i) {
    double row[kSums] = {};
    for (int64_t at = 0; at < t.cols; at += kChunk) {
      const int64_t n = std::min(kChunk, t.cols - at), own = i + t.diagonal - at;
      const bool meets = own >= 0 && own < n, apart = t.metric != kDot;
      T *d = t.d + i * t.ld + at, *p = order == 2 ? t.p + i * t.ld + at : nullptr;
      if (t.xn) to_distances(t, i, at, n, d, p);
      if (meets && apart) d[own] *= T(0);
      std::fill(k, k + n, T(0));
      if constexpr (order > 0) std::fill(psi, psi + n, T(0));
      if constexpr (order > 1) std::fill(chi, chi + n, T(0));
      for (const Term& term : t.terms) add_term<order>(term, n, d, e, k, psi, chi);
      if (meets && t.drop) k[own] = T(0);
      if (t.k) LOOP t.k[i * t.ld + at + j] = k[j];
      if constexpr (order == 0) continue;
      if (meets && order > 0 && (t.drop || apart)) psi[own] *= T(0);
      if (meets && order > 1 && (t.drop || apart)) chi[own] *= T(0);
      const T u = t.c ? T(0) : t.u[i], *v = t.c ? nullptr : t.v + at;
      if (t.c) {
        LOOP c[j] = t.c[i * t.ld + at + j];
      } else {
        LOOP c[j] = u * v[j];
      }
      if constexpr (order == 1) {
        if (t.parameters) {
          if (meets && t.drop) c[own] = T(0);
          for (size_t s = 0; s < t.terms.size(); ++s) add_parameters(t.terms[s], n, d, c, sums + 1 + 3 * s);
        }
        LOOP d[j] = c[j] * psi[j];
        row[kWeights] += double(total(d, n));
        if (v) {
          const T some = dot(v, k, n);
          row[kValues] += double(some), sums[0] += double(u) * double(some);
        } else {
          sums[0] += double(dot(c, k, n));
        }
        if (!columns) continue;
        LOOP columns[kWeights * t.cols + at + j] += d[j];
        if (v) LOOP columns[kValues * t.cols + at + j] += u * k[j];
      }
      if constexpr (order == 2) {
        const T pu = t.pu ? t.pu[i] : T(0), *pv = t.pv ? t.pv + at : nullptr;
        if (t.pc) {
          LOOP pc[j] = t.pc[i * t.ld + at + j];
        } else {
          LOOP pc[j] = pu * v[j];
          if (pv) LOOP pc[j] += u * pv[j];
        }
        LOOP {
          const T inner = p[j];
          d[j] = pc[j] * psi[j] + c[j] * chi[j] * inner;
          p[j] = c[j] * psi[j];
          chi[j] = psi[j] * inner;
        }
        row[kWeights] += double(total(d, n)), row[kSeconds] += double(total(p, n));
        if (t.q) LOOP t.q[i * t.ld + at + j] = chi[j];
        if (v) {
          row[kValues] += double(dot(v, chi, n));
          if (pv) row[kValues] += double(dot(pv, k, n));
        }
        if (!columns) continue;
        LOOP columns[kWeights * t.cols + at + j] += d[j];
        LOOP columns[kSeconds * t.cols + at + j] += p[j];
        if (v) LOOP columns[kValues * t.cols + at + j] += u * chi[j] + pu * k[j];
      }
    }
    for (int s = 0; order > 0 && s < kSums; ++s) t.rows[i * kSums + s] = row[s];
  }
}

// target_clones does not apply to templates.
#define GANCORE_ROWS(T, order)                                                                                        \
  GANCORE_CLONES void rows_##T##_##order(const Tile<T>& t, int64_t from, int64_t to, T* columns, double* sums) {      \
    rows_of<order, T>(t, from, to, columns, sums);                                                                    \
  }
GANCORE_ROWS(float, 0)
GANCORE_ROWS(float, 1)
GANCORE_ROWS(float, 2)
GANCORE_ROWS(double, 0)
GANCORE_ROWS(double, 1)
GANCORE_ROWS(double, 2)

void rows(int order, const Tile<float>& t, int64_t from, int64_t to, float* columns, double* sums) {
  (order == 0 ? rows_float_0 : order == 1 ? rows_float_1 : rows_float_2)(t, from, to, columns, sums);
}
void rows(int order, const Tile<double>& t, int64_t from, int64_t to, double* columns, double* sums) {
  (order == 0 ? rows_double_0 : order == 1 ? rows_double_1 : rows_double_2)(t, from, to, columns, sums);
}

template <class Run> void by_type(ScalarType type, Run run) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "kernel sums: the native kernel takes float32 and float64");
  return type == ScalarType::Float ? run(float{}) : run(double{});
}

template <class T> const T* data(const std::optional<Tensor>& t) {
  return t.has_value() ? static_cast<const T*>(t->const_data_ptr()) : nullptr;
}
template <class T> T* fill(std::optional<Tensor>& t) { return t.has_value() ? static_cast<T*>(t->mutable_data_ptr()) : nullptr; }

std::vector<Term> terms_of(const Tensor& terms) {
  std::vector<Term> found;
  const double* row = static_cast<const double*>(terms.const_data_ptr());
  for (int64_t i = 0; i < terms.size(0); ++i, row += 4)
    found.push_back({int(row[3]) % kKinds, int(row[3]) / kKinds, row[0], row[1], row[2]});
  return found;
}

// One tile. d, p, c, pc, k, q (rows, cols) share their row stride. terms (n, 4) double: w, a, b, code. row_sums (rows, 3) double receives
// sums, columns (3, cols) double gets column sums added, sums (1 + 3 n) double the value and the derivatives by parameters. Rows are taken in
// groups whose number depends on the tile alone, so that sums have the same bits on any number of threads.
void kernel_tile(int64_t order, Tensor d, std::optional<Tensor> p, const Tensor x, const Tensor y, std::optional<Tensor> px,
                 std::optional<Tensor> py, std::optional<Tensor> xn, std::optional<Tensor> yn, std::optional<Tensor> xp,
                 std::optional<Tensor> yp, std::optional<Tensor> u, std::optional<Tensor> v, std::optional<Tensor> pu,
                 std::optional<Tensor> pv, std::optional<Tensor> c, std::optional<Tensor> pc, std::optional<Tensor> k,
                 std::optional<Tensor> q, const Tensor terms, std::optional<Tensor> row_sums, std::optional<Tensor> columns,
                 std::optional<Tensor> sums, int64_t metric, int64_t diagonal, bool drop, bool parameters) {
  STD_TORCH_CHECK(order == 0 || (row_sums && sums && (c || (u && v))), "kernel sums: order ", order, " lacks weights or results");
  STD_TORCH_CHECK(order < 2 || p, "kernel sums: the second order lacks tangents");
  by_type(d.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    Tile<T> t{static_cast<T*>(d.mutable_data_ptr()), fill<T>(p), data<T>(x), data<T>(y), data<T>(px), data<T>(py), data<T>(xn),
              data<T>(yn), data<T>(xp), data<T>(yp), data<T>(u), data<T>(v), data<T>(pu), data<T>(pv), data<T>(c), data<T>(pc),
              fill<T>(k), fill<T>(q), fill<double>(row_sums), d.size(1), x.size(1), d.stride(0), diagonal, int(metric), drop, parameters,
              terms_of(terms)};
    const int64_t height = d.size(0), groups = (height + kRows - 1) / kRows, width = kSums * t.cols;
    const int64_t numbers = 1 + 3 * int64_t(t.terms.size());
    std::vector<T> partial(columns ? groups * width : 0);
    std::vector<double> parts(groups * numbers);
    torch::stable::parallel_for(0, groups, 1, [&](int64_t first, int64_t last) {
      for (int64_t g = first; g < last; ++g)
        rows(int(order), t, g * kRows, std::min((g + 1) * kRows, height), columns ? partial.data() + g * width : nullptr,
             parts.data() + g * numbers);
    });
    if (columns) {
      double* to = fill<double>(columns);
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t j = 0; j < width; ++j) to[j] += partial[g * width + j];
    }
    if (double* to = fill<double>(sums))
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t s = 0; s < numbers; ++s) to[s] += parts[g * numbers + s];
  });
}

// Distances of few features, or of |x - y|_1, without a matrix product: lanes run along y, which comes transposed (features, cols).
template <class T> GANCORE_INLINE void distances_of(const T* x, const T* y, T* d, int64_t n, int64_t features, int64_t stride, bool square) {
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t width = std::min(kChunk, n - at);
    T sum[kChunk] = {};
    for (int64_t f = 0; f < features; ++f) {
      const T one = x[f], *other = y + f * stride + at;
      const int64_t n = width;
      if (square) {
        LOOP { const T by = one - other[j]; sum[j] += by * by; }
      } else {
        LOOP { const T by = one - other[j]; sum[j] += by < T(0) ? -by : by; }
      }
    }
    std::copy(sum, sum + width, d + at);
  }
}

template <class T> GANCORE_INLINE T sign(T by) { return T(int(by > T(0)) - int(by < T(0))); }

// sum over features of (px - py) sign(x - y), of x - y itself where square.
template <class T>
GANCORE_INLINE void inner_of(const T* x, const T* y, const T* px, const T* py, T* p, int64_t n, int64_t features, int64_t stride, bool square) {
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t width = std::min(kChunk, n - at);
    T sum[kChunk] = {};
    for (int64_t f = 0; f < features; ++f) {
      const T one = x[f], tangent = px ? px[f] : T(0), *other = y + f * stride + at;
      const int64_t n = width;
      T by[kChunk];
      if (square) {
        LOOP by[j] = one - other[j];
      } else {
        LOOP by[j] = sign(one - other[j]);
      }
      LOOP sum[j] += tangent * by[j];
      if (const T* second = py ? py + f * stride + at : nullptr) LOOP sum[j] -= second[j] * by[j];
    }
    std::copy(sum, sum + width, p + at);
  }
}

// gx_f += sum over j of w_j sign(x_f - y_fj)
template <class T> GANCORE_INLINE void signs_of(const T* w, const T* x, const T* y, T* gx, int64_t n, int64_t features, int64_t stride) {
  for (int64_t f = 0; f < features; ++f) {
    T lanes[kLanes] = {};
    const T one = x[f], *other = y + f * stride;
    int64_t at = 0;
    for (; at + kLanes <= n; at += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += w[at + l] * sign(one - other[at + l]);
    T sum = 0;
    for (int64_t l = 0; l < kLanes; ++l) sum += lanes[l];
    for (; at < n; ++at) sum += w[at] * sign(one - other[at]);
    gx[f] += sum;
  }
}

#define GANCORE_LINES(T)                                                                                                        \
  GANCORE_CLONES void distances(const T* x, const T* y, T* d, int64_t n, int64_t features, int64_t stride, bool square) {       \
    distances_of(x, y, d, n, features, stride, square);                                                                         \
  }                                                                                                                             \
  GANCORE_CLONES void inner(const T* x, const T* y, const T* px, const T* py, T* p, int64_t n, int64_t features, int64_t stride, \
                            bool square) {                                                                                      \
    inner_of(x, y, px, py, p, n, features, stride, square);                                                                     \
  }                                                                                                                             \
  GANCORE_CLONES void signs(const T* w, const T* x, const T* y, T* gx, int64_t n, int64_t features, int64_t stride) {           \
    signs_of(w, x, y, gx, n, features, stride);                                                                                 \
  }
GANCORE_LINES(float)
GANCORE_LINES(double)

// d (rows, cols) from x (rows, features) and y (features, cols); and, given tangents of either, p.
void kernel_distances(Tensor d, std::optional<Tensor> p, const Tensor x, const Tensor y, std::optional<Tensor> px,
                      std::optional<Tensor> py, bool square) {
  by_type(d.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t features = x.size(1), cols = d.size(1), stride = y.stride(0), ld = d.stride(0);
    const T *from = data<T>(x), *to = data<T>(y), *tangent = data<T>(px), *second = data<T>(py);
    T *out = static_cast<T*>(d.mutable_data_ptr()), *out_p = fill<T>(p);
    torch::stable::parallel_for(0, d.size(0), kRows, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        distances(from + i * features, to, out + i * ld, cols, features, stride, square);
        if (out_p)
          inner(from + i * features, to, tangent ? tangent + i * features : nullptr, second, out_p + i * ld, cols, features, stride, square);
      }
    });
  });
}

// g (rows, features) += sum over columns of w (rows, cols) sign(x (rows, features) - y (features, cols)).
void kernel_signs(Tensor g, const Tensor w, const Tensor x, const Tensor y) {
  by_type(g.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t features = x.size(1), cols = w.size(1), stride = y.stride(0), ld = w.stride(0);
    const T *from = data<T>(x), *to = data<T>(y), *weights = data<T>(w);
    T* out = static_cast<T*>(g.mutable_data_ptr());
    torch::stable::parallel_for(0, w.size(0), kRows, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) signs(weights + i * ld, from + i * features, to, out + i * features, cols, features, stride);
    });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "kernel_tile_native(int order, Tensor(a!) d, Tensor(b!)? p, Tensor x, Tensor y, Tensor? px, Tensor? py, Tensor? xn, Tensor? yn, "
      "Tensor? xp, Tensor? yp, Tensor? u, Tensor? v, Tensor? pu, Tensor? pv, Tensor? c, Tensor? pc, Tensor(c!)? k, Tensor(d!)? q, "
      "Tensor terms, Tensor(e!)? row_sums, Tensor(f!)? columns, Tensor(g!)? sums, int metric, int diagonal, bool drop, "
      "bool parameters) -> ()");
  m.def("kernel_distances_native(Tensor(a!) d, Tensor(b!)? p, Tensor x, Tensor y, Tensor? px, Tensor? py, bool square) -> ()");
  m.def("kernel_signs_native(Tensor(a!) g, Tensor w, Tensor x, Tensor y) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) {
  m.impl("kernel_tile_native", TORCH_BOX(&gancore::kernel_tile));
  m.impl("kernel_distances_native", TORCH_BOX(&gancore::kernel_distances));
  m.impl("kernel_signs_native", TORCH_BOX(&gancore::kernel_signs));
}
