// The pass of kernel_sums.cpp over one tile of pairs: it comes in as products x y^T or distances and leaves as the weights of the next
// products. kernels/kernel_sums states the maths.
#pragma once

#include "common.h"

#include <algorithm>
#include <cmath>
#include <vector>

#define LOOP _Pragma("GCC ivdep") for (int64_t j = 0; j < n; ++j)

namespace gancore::kernel_sums {

enum Kind { kGaussian, kRationalQuadratic, kInverseMultiquadric, kEnergy, kLaplacian, kPolynomial, kKinds = 8 };
enum Metric { kSquared, kAbsolute, kDot };

// A chunk of a row: its distances and what is made of them stay in the first cache.
constexpr int64_t kChunk = 256;

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

// Adds `count` Gaussians that follow one another by `squarings` each to k, psi (the factor of the first derivative) and chi (of the
// second) over a chunk. `e` carries the exponential from one to the next; the first of a chain takes it from the distances.
template <int order, int count, int squarings, class T>
GANCORE_INLINE void add_gaussians(const Term* t, int64_t n, const T* d, T* e, T* k, T* psi, T* chi) {
  T w[count], first[count], second[count];
  for (int i = 0; i < count; ++i)
    w[i] = T(t[i].w), first[i] = T(-t[i].w / (t[i].a * t[i].a)), second[i] = T(t[i].w / (t[i].a * t[i].a * t[i].a * t[i].a));
  const T rate = T(-0.5 / (t->a * t->a));
  LOOP {
    T v = squarings ? e[j] : exp_down(d[j] * rate), of_k = k[j], of_psi = T(0), of_chi = T(0);
    if constexpr (order > 0) of_psi = psi[j];
    if constexpr (order > 1) of_chi = chi[j];
    for (int i = 0; i < count; ++i) {
      for (int s = 0; s < squarings; ++s) v *= v;
      of_k += w[i] * v;
      if constexpr (order > 0) of_psi += first[i] * v;
      if constexpr (order > 1) of_chi += second[i] * v;
    }
    e[j] = v, k[j] = of_k;
    if constexpr (order > 0) psi[j] = of_psi;
    if constexpr (order > 1) chi[j] = of_chi;
  }
}

// Adds the term, and Gaussians after it that come along; returns how many terms that were.
template <int order, class T>
GANCORE_INLINE int add_gaussian(const Term* t, const Term* end, int64_t n, const T* d, T* e, T* k, T* psi, T* chi) {
  if (t->extra == 0) return add_gaussians<order, 1, 0>(t, n, d, e, k, psi, chi), 1;
  const auto same = [&](int count) {
    for (int i = 1; i < count; ++i)
      if (t + i >= end || t[i].kind != kGaussian || t[i].extra != t->extra) return false;
    return true;
  };
  if (t->extra == 2 && same(4)) return add_gaussians<order, 4, 2>(t, n, d, e, k, psi, chi), 4;
  if (t->extra == 2 && same(2)) return add_gaussians<order, 2, 2>(t, n, d, e, k, psi, chi), 2;
  for (int i = 1; i < t->extra; ++i) LOOP e[j] *= e[j];
  return add_gaussians<order, 1, 1>(t, n, d, e, k, psi, chi), 1;
}

// Of a constant degree the powers unroll, and the loop is vectorised.
template <int order, class T>
GANCORE_INLINE void add_power(int degree, const Term& t, int64_t n, const T* d, T* k, T* psi, T* chi) {
  const T w = T(t.w), first = T(t.w * t.a * degree), second = T(t.w * t.a * t.a * degree * (degree - 1)), a = T(t.a), b = T(t.b);
  LOOP {
    const T z = a * d[j] + b;
    T lower = T(1);  // z^(degree - 2)
    for (int i = 2; i < degree; ++i) lower *= z;
    const T low = degree > 1 ? lower * z : T(1);
    k[j] += w * low * z;
    if constexpr (order > 0) psi[j] += first * low;
    if constexpr (order > 1) chi[j] += second * lower;
  }
}

// Adds a term of another kind.
template <int order, class T> GANCORE_INLINE void add_term(const Term& t, int64_t n, const T* d, T* k, T* psi, T* chi) {
  const T w = T(t.w), a = T(t.a);
  if (t.kind == kRationalQuadratic) {
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
    switch (t.extra) {
      case 1: return add_power<order>(1, t, n, d, k, psi, chi);
      case 2: return add_power<order>(2, t, n, d, k, psi, chi);
      case 3: return add_power<order>(3, t, n, d, k, psi, chi);
      case 4: return add_power<order>(4, t, n, d, k, psi, chi);
      default: return add_power<order>(t.extra, t, n, d, k, psi, chi);
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
  const std::vector<Term>& terms;
};

// Sums by lanes: one chain of additions would wait for each. An array of lanes goes through memory at every step, a vector does not.
template <class T> struct Lanes {
  typedef T Vector __attribute__((vector_size(64)));
  static constexpr int64_t width = 64 / sizeof(T);
  Vector sum = {};

  static GANCORE_INLINE Vector at(const T* p) {
    Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  GANCORE_INLINE T total() const {
    T lanes[width];
    std::memcpy(lanes, &sum, sizeof(sum));
    for (int64_t n = width / 2; n > 0; n /= 2)
      for (int64_t i = 0; i < n; ++i) lanes[i] += lanes[i + n];
    return lanes[0];
  }
};

template <class T> GANCORE_INLINE T total(const T* v, int64_t n) {
  Lanes<T> lanes;
  int64_t at = 0;
  for (; at + lanes.width <= n; at += lanes.width) lanes.sum += lanes.at(v + at);
  T rest = 0;
  for (; at < n; ++at) rest += v[at];
  return lanes.total() + rest;
}

template <class T> GANCORE_INLINE T dot(const T* a, const T* b, int64_t n) {
  Lanes<T> lanes;
  int64_t at = 0;
  for (; at + lanes.width <= n; at += lanes.width) lanes.sum += lanes.at(a + at) * lanes.at(b + at);
  T rest = 0;
  for (; at < n; ++at) rest += a[at] * b[at];
  return lanes.total() + rest;
}

// d = u v psi, and the sums of d and of v k.
template <class T>
GANCORE_INLINE void weigh(int64_t n, const T* v, T u, const T* k, const T* psi, T* d, T& of_values, T& of_weights) {
  Lanes<T> values, weights;
  int64_t at = 0;
  for (; at + values.width <= n; at += values.width) {
    const auto by = values.at(v + at), w = by * u * values.at(psi + at);
    std::memcpy(d + at, &w, sizeof(w));
    weights.sum += w, values.sum += by * values.at(k + at);
  }
  of_values = T(0), of_weights = T(0);
  for (; at < n; ++at) {
    const T w = v[at] * u * psi[at];
    d[at] = w, of_weights += w, of_values += v[at] * k[at];
  }
  of_values += values.total(), of_weights += weights.total();
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
    Lanes<T> lanes;
    int64_t f = 0;
    for (; f + lanes.width <= t.features; f += lanes.width) {
      const auto by = lanes.at(x + f) - lanes.at(y + f);
      lanes.sum += by * by;
    }
    T sum = lanes.total(), inner = 0;
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

// Rows [from, to) of a tile. order 0: values alone. 1: d becomes c psi, the weight of x - y in the gradient. 2: d becomes
// pc psi + c chi p, the weight of x - y in the second derivative, and p becomes c psi, that of px - py.
template <int order, class T> GANCORE_INLINE void rows_of(const Tile<T>& t, int64_t from, int64_t to, T* columns, double* sums) {
  T e[kChunk], k[kChunk], psi[kChunk], chi[kChunk], c[kChunk], pc[kChunk];
  for (int64_t i = from; i < to; ++i) {
    double row[kSums] = {};
    for (int64_t at = 0; at < t.cols; at += kChunk) {
      const int64_t n = std::min(kChunk, t.cols - at), own = i + t.diagonal - at;
      const bool meets = own >= 0 && own < n, apart = t.metric != kDot;
      T *d = t.d + i * t.ld + at, *p = order == 2 ? t.p + i * t.ld + at : nullptr;
      if (meets && apart && t.xn) d[own] = T(0);  // else it would count as near
      if (t.xn) to_distances(t, i, at, n, d, p);
      if (meets && apart) d[own] *= T(0);
      std::fill(k, k + n, T(0));
      if constexpr (order > 0) std::fill(psi, psi + n, T(0));
      if constexpr (order > 1) std::fill(chi, chi + n, T(0));
      for (const Term *term = t.terms.data(), *end = term + t.terms.size(); term < end;) {
        if (term->kind == kGaussian) {
          term += add_gaussian<order>(term, end, n, d, e, k, psi, chi);
        } else {
          add_term<order>(*term++, n, d, k, psi, chi);
        }
      }
      if (meets && t.drop) k[own] = T(0);
      if (t.k) LOOP t.k[i * t.ld + at + j] = k[j];
      if constexpr (order == 0) {
        if (t.v) row[kValues] += double(dot(t.v + at, k, n));
        continue;
      }
      if (meets && order > 0 && (t.drop || apart)) psi[own] *= T(0);
      if (meets && order > 1 && (t.drop || apart)) chi[own] *= T(0);
      const T u = t.c ? T(0) : t.u[i], *v = t.c ? nullptr : t.v + at;
      if (t.c) {
        LOOP c[j] = t.c[i * t.ld + at + j];
      } else if (order == 2 || t.parameters) {
        LOOP c[j] = u * v[j];
      }
      if constexpr (order == 1) {
        if (t.parameters) {
          if (meets && t.drop) c[own] = T(0);
          for (size_t s = 0; s < t.terms.size(); ++s) add_parameters(t.terms[s], n, d, c, sums + 1 + 3 * s);
        }
        T of_values, of_weights;
        weigh(n, v ? v : c, v ? u : T(1), k, psi, d, of_values, of_weights);
        row[kWeights] += double(of_weights), sums[0] += double(v ? u : T(1)) * double(of_values);
        if (v) row[kValues] += double(of_values);
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
    for (int s = 0; s < kSums; ++s) t.rows[i * kSums + s] = row[s];
  }
}

// Few features, or |x - y|_1: no matrix product, and differences that do not cancel. Lanes run along y, which comes transposed
// (features, cols) with a row stride.

template <bool absolute, class T> GANCORE_INLINE T of_difference(T by) {
  if constexpr (absolute) return T(int(by > T(0)) - int(by < T(0)));
  return by;
}

// d_j = |x - y_j|^2 or |x - y_j|_1
template <bool absolute, class T>
GANCORE_INLINE void distances_of(const T* x, const T* y, T* d, int64_t cols, int64_t features, int64_t stride) {
  for (int64_t at = 0; at < cols; at += kChunk) {
    const int64_t n = std::min(kChunk, cols - at);
    T sum[kChunk] = {};
    for (int64_t f = 0; f < features; ++f) {
      const T one = x[f], *other = y + f * stride + at;
      LOOP { const T by = one - other[j]; sum[j] += absolute ? (by < T(0) ? -by : by) : by * by; }
    }
    std::copy(sum, sum + n, d + at);
  }
}

// p_j = sum over features of (px - py_j) g, g being x - y_j or its signs
template <bool absolute, class T>
GANCORE_INLINE void inner_of(const T* x, const T* y, const T* px, const T* py, T* p, int64_t cols, int64_t features, int64_t stride) {
  for (int64_t at = 0; at < cols; at += kChunk) {
    const int64_t n = std::min(kChunk, cols - at);
    T sum[kChunk] = {};
    for (int64_t f = 0; f < features; ++f) {
      const T one = x[f], tangent = px ? px[f] : T(0), *other = y + f * stride + at;
      if (py) {
        const T* second = py + f * stride + at;
        LOOP sum[j] += (tangent - second[j]) * of_difference<absolute>(one - other[j]);
      } else {
        LOOP sum[j] += tangent * of_difference<absolute>(one - other[j]);
      }
    }
    std::copy(sum, sum + n, p + at);
  }
}

// to_f += sum over j of w_j g_f(x, y_j); x or y may be null for zero
template <bool absolute, class T>
GANCORE_INLINE void row_of(const T* weights, const T* x, const T* y, T* to, int64_t n, int64_t features, int64_t stride) {
  for (int64_t f = 0; f < features; ++f) {
    const T one = x ? x[f] : T(0), *other = y ? y + f * stride : nullptr;
    Lanes<T> lanes;
    int64_t at = 0;
    for (; at + lanes.width <= n; at += lanes.width) {
      const auto by = other ? one - lanes.at(other + at) : one + decltype(lanes.sum){};
      if constexpr (absolute) {
        const decltype(lanes.sum) none = {}, w = lanes.at(weights + at);
        lanes.sum += (by > none ? w : none) - (by < none ? w : none);
      } else {
        lanes.sum += lanes.at(weights + at) * by;
      }
    }
    T sum = lanes.total();
    for (; at < n; ++at) sum += weights[at] * of_difference<absolute>(one - (other ? other[at] : T(0)));
    to[f] += sum;
  }
}

// to_jf += sum over rows i of w_ij g_f(y_j, x_i), n <= kChunk columns
template <bool absolute, class T>
GANCORE_INLINE void columns_of(const T* w, int64_t ld, const T* x, const T* y, T* to, int64_t rows, int64_t n, int64_t features,
                               int64_t stride) {
  for (int64_t f = 0; f < features; ++f) {
    T sum[kChunk] = {};
    const T* mine = y ? y + f * stride : nullptr;
    for (int64_t i = 0; i < rows; ++i) {
      const T one = x ? x[i * features + f] : T(0), *row = w + i * ld;
      if (mine) {
        LOOP sum[j] += row[j] * of_difference<absolute>(mine[j] - one);
      } else {
        LOOP sum[j] -= row[j] * one;
      }
    }
    for (int64_t j = 0; j < n; ++j) to[j * features + f] += sum[j];
  }
}

// target_clones does not apply to templates.
#define GANCORE_ROWS(T, order)                                                                                        \
  GANCORE_CLONES static void rows_##T##_##order(const Tile<T>& t, int64_t from, int64_t to, T* columns, double* sums) {      \
    rows_of<order, T>(t, from, to, columns, sums);                                                                    \
  }
GANCORE_ROWS(float, 0)
GANCORE_ROWS(float, 1)
GANCORE_ROWS(float, 2)
GANCORE_ROWS(double, 0)
GANCORE_ROWS(double, 1)
GANCORE_ROWS(double, 2)

static void rows(int order, const Tile<float>& t, int64_t from, int64_t to, float* columns, double* sums) {
  (order == 0 ? rows_float_0 : order == 1 ? rows_float_1 : rows_float_2)(t, from, to, columns, sums);
}
static void rows(int order, const Tile<double>& t, int64_t from, int64_t to, double* columns, double* sums) {
  (order == 0 ? rows_double_0 : order == 1 ? rows_double_1 : rows_double_2)(t, from, to, columns, sums);
}

#define GANCORE_LINES(T)                                                                                                          \
  GANCORE_CLONES static void distances(bool absolute, const T* x, const T* y, T* d, int64_t n, int64_t features, int64_t stride) { \
    absolute ? distances_of<true>(x, y, d, n, features, stride) : distances_of<false>(x, y, d, n, features, stride);              \
  }                                                                                                                               \
  GANCORE_CLONES static void inner(bool absolute, const T* x, const T* y, const T* px, const T* py, T* p, int64_t n,              \
                                   int64_t features, int64_t stride) {                                                            \
    absolute ? inner_of<true>(x, y, px, py, p, n, features, stride) : inner_of<false>(x, y, px, py, p, n, features, stride);      \
  }                                                                                                                               \
  GANCORE_CLONES static void row(bool absolute, const T* w, const T* x, const T* y, T* to, int64_t n, int64_t features,           \
                                 int64_t stride) {                                                                                \
    absolute ? row_of<true>(w, x, y, to, n, features, stride) : row_of<false>(w, x, y, to, n, features, stride);                  \
  }                                                                                                                               \
  GANCORE_CLONES static void columns(bool absolute, const T* w, int64_t ld, const T* x, const T* y, T* to, int64_t rows,          \
                                     int64_t n, int64_t features, int64_t stride) {                                               \
    absolute ? columns_of<true>(w, ld, x, y, to, rows, n, features, stride)                                                       \
             : columns_of<false>(w, ld, x, y, to, rows, n, features, stride);                                                     \
  }
GANCORE_LINES(float)
GANCORE_LINES(double)

GANCORE_CLONES static float inner_product(const float* a, const float* b, int64_t n) { return dot(a, b, n); }
GANCORE_CLONES static double inner_product(const double* a, const double* b, int64_t n) { return dot(a, b, n); }

}  // namespace gancore::kernel_sums
