// What every CPU kernel needs: checks, conversion of stored types to the type computed in, instruction sets, branch-free maths.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

// One copy of a function for each x86 level; the loader picks one. Everything called inside must be GANCORE_INLINE,
// since an ordinary call would leave the chosen instruction set.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define GANCORE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GANCORE_CLONES
#endif
#if defined(__GNUC__)
#define GANCORE_INLINE inline __attribute__((always_inline))
#define GANCORE_LAMBDA __attribute__((always_inline))
#else
#define GANCORE_INLINE inline
#define GANCORE_LAMBDA
#endif

namespace gancore {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class To, class From>
GANCORE_INLINE To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &value, sizeof(To));
  return out;
}

// Stored 16-bit types, distinct so that overloads can tell them apart.
struct Bf16 { uint16_t v; };
struct Half { uint16_t v; };

template <class T> struct Compute { using type = T; };
template <> struct Compute<Bf16> { using type = float; };
template <> struct Compute<Half> { using type = float; };

GANCORE_INLINE float load(float x) { return x; }
GANCORE_INLINE double load(double x) { return x; }
GANCORE_INLINE float load(Bf16 x) { return bits<float>(uint32_t(x.v) << 16); }
GANCORE_INLINE float load(Half x) {
  // The exponent is rebiased by a multiplication, which is exact and normalises subnormal numbers on the way.
  const float magnitude = bits<float>(uint32_t(x.v & 0x7fffu) << 13) * 0x1p112f;
  const uint32_t special = (x.v & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return bits<float>(bits<uint32_t>(magnitude) | special | (uint32_t(x.v & 0x8000u) << 16));
}

GANCORE_INLINE void store(float& to, float x) { to = x; }
GANCORE_INLINE void store(double& to, double x) { to = x; }
GANCORE_INLINE void store(Bf16& to, float x) {
  const uint32_t u = bits<uint32_t>(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  to.v = uint16_t(x != x ? 0x7fc0u : rounded);
}
GANCORE_INLINE void store(Half& to, float x) {
  const uint32_t u = bits<uint32_t>(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const uint32_t normal = (a - (112u << 23) + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // Adding 0.5 lets the FPU round a subnormal result at the right bit.
  const uint32_t subnormal = bits<uint32_t>(bits<float>(a) + 0.5f) - 0x3f000000u;
  const uint32_t finite = a < (113u << 23) ? subnormal : normal;
  const uint32_t large = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
  to.v = uint16_t(sign | (a >= (143u << 23) ? large : finite));
}

template <class T> using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// |x| at most bound; NaN too. Of a float comparison's branches g++ would specialise all that follows, and compute it for each.
template <class T> GANCORE_INLINE T bounded(T x, T bound) {
  constexpr Word<T> sign = Word<T>(1) << (8 * sizeof(T) - 1);
  const Word<T> magnitude = bits<Word<T>>(x) & ~sign;
  return bits<T>(std::min(magnitude, bits<Word<T>>(bound)) | (bits<Word<T>>(x) & sign));
}

// y, or NaN where x is.
template <class T> GANCORE_INLINE T nan_as(T y, T x) { return bits<T>(bits<Word<T>>(y) | -Word<T>(x != x)); }

// exp(x) - 1 = 2^k p + (2^k - 1) with p = expm1(r), r = x - k ln 2: accurate near 0 and for large negative x.
template <class T> struct Power { std::make_signed_t<Word<T>> k; T p; };

// Adding 1.5 * 2^23 rounds, and leaves k in the low bits.
GANCORE_INLINE Power<float> reduce(float x) {
  const float shifted = x * 1.44269504f + 0x1.8p23f, k = shifted - 0x1.8p23f;
  const float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
  float p = 1.f / 5040;
  p = p * r + 1.f / 720, p = p * r + 1.f / 120, p = p * r + 1.f / 24, p = p * r + 1.f / 6, p = p * r + 0.5f;
  return {bits<int32_t>(shifted) - bits<int32_t>(0x1.8p23f), p * r * r + r};
}

GANCORE_INLINE Power<double> reduce(double x) {
  const double shifted = x * 1.4426950408889634 + 0x1.8p52, k = shifted - 0x1.8p52;
  const double r = (x - k * 0.69314718036912382) - k * 1.9082149292705877e-10;
  double p = 1. / 6227020800;
  p = p * r + 1. / 479001600, p = p * r + 1. / 39916800, p = p * r + 1. / 3628800, p = p * r + 1. / 362880;
  p = p * r + 1. / 40320, p = p * r + 1. / 5040, p = p * r + 1. / 720, p = p * r + 1. / 120, p = p * r + 1. / 24;
  p = p * r + 1. / 6, p = p * r + 0.5;
  return {bits<int64_t>(shifted) - bits<int64_t>(0x1.8p52), p * r * r + r};
}

GANCORE_INLINE float power_of_two(int32_t k) { return bits<float>(uint32_t(k + 127) << 23); }
GANCORE_INLINE double power_of_two(int64_t k) { return bits<double>(uint64_t(k + 1023) << 52); }

// 2^k in two factors, so that infinity and zero are reached by multiplication.
template <class T> GANCORE_INLINE T exp_(T x) {
  const auto e = reduce(bounded(x, sizeof(T) == 4 ? T(104) : T(746)));
  const auto half = e.k >> 1;
  const T scale = power_of_two(half);
  return nan_as((scale * e.p + scale) * power_of_two(e.k - half), x);
}

// For x <= 0; some number above.
template <class T> GANCORE_INLINE T expm1_(T x) {
  const auto e = reduce(bounded(x, sizeof(T) == 4 ? T(87) : T(708)));
  const T scale = power_of_two(e.k);
  return nan_as(scale * e.p + (scale - T(1)), x);
}

template <class T> GANCORE_INLINE T sigmoid_(T x) { return T(1) / (T(1) + exp_(-x)); }

template <class T> GANCORE_INLINE T tanh_(T x) {
  const T a = x < T(0) ? -x : x, e = expm1_(T(-2) * a), t = -e / (e + T(2));
  return x < T(0) ? -t : t;
}

// log(1 + z) for z in [0, 1], as 2 artanh(z / (z + 2)); the argument is at most 1/3.
template <class T> GANCORE_INLINE T log1p_unit(T z) {
  constexpr int terms = sizeof(T) == 4 ? 8 : 17;
  const T s = z / (z + T(2)), q = s * s;
  T p = T(1) / T(2 * terms + 1);
  for (int i = terms - 1; i >= 0; --i) p = p * q + T(1) / T(2 * i + 1);
  return T(2) * s * p;
}

template <class Run> void by_dtype(ScalarType type, const char* op, Run run) {
  switch (type) {
    case ScalarType::Float: return run(float{});
    case ScalarType::Double: return run(double{});
    case ScalarType::BFloat16: return run(Bf16{});
    case ScalarType::Half: return run(Half{});
    default: STD_TORCH_CHECK(false, op, ": the native kernel takes float32, float64, bfloat16 and float16");
  }
}

}  // namespace gancore
