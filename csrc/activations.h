// Activations and their derivatives of one element, twins of kernels/_activations.py. The activation is a template parameter and the
// branches are selections, so that a loop over elements is vectorised as a whole.
#pragma once

#include "common.h"

namespace gancore {

// The order of ACTS in kernels/_activations.py.
enum Act : int64_t { kLinear, kRelu, kLeakyRelu, kElu, kSilu, kTanh, kSigmoid, kSoftplus };

template <Act act, class T> GANCORE_INLINE T value(T u, T slope) {
  if constexpr (act == kRelu) {
    return u <= T(0) ? T(0) : u;
  } else if constexpr (act == kLeakyRelu) {
    return u > T(0) ? u : u * slope;
  } else if constexpr (act == kElu) {
    const T e = expm1_(u);
    return u > T(0) ? u : e;
  } else if constexpr (act == kSilu) {
    return u / (T(1) + exp_(-u));
  } else if constexpr (act == kTanh) {
    return tanh_(u);
  } else if constexpr (act == kSigmoid) {
    return sigmoid_(u);
  } else if constexpr (act == kSoftplus) {
    const T positive = u <= T(0) ? T(0) : u, tail = log1p_unit(exp_(u > T(0) ? -u : u));
    return u > T(20) ? u : positive + tail;
  } else {
    return u;
  }
}

// g da/du; selections, not products, where the reference selects, so that an infinite g meets no zero.
template <Act act, class T> GANCORE_INLINE T first(T g, T u, T a, T slope) {
  if constexpr (act == kRelu) {
    return a <= T(0) ? T(0) : g;
  } else if constexpr (act == kLeakyRelu) {
    return u > T(0) ? g : g * slope;
  } else if constexpr (act == kElu) {
    return a > T(0) ? g : g * (a + T(1));
  } else if constexpr (act == kSilu) {
    const T s = sigmoid_(u);
    return g * s * (T(1) + u * (T(1) - s));
  } else if constexpr (act == kTanh) {
    return g * (T(1) - a * a);
  } else if constexpr (act == kSigmoid) {
    return g * a * (T(1) - a);
  } else if constexpr (act == kSoftplus) {
    const T e = expm1_(-a);
    return a > T(20) ? g : -g * e;
  } else {
    return g;
  }
}

// With h = da/du: dh/da, for silu dh/du.
template <Act act, class T> GANCORE_INLINE T second(T u, T a) {
  if constexpr (act == kElu) {
    return a > T(0) ? T(0) : T(1);
  } else if constexpr (act == kSilu) {
    const T s = sigmoid_(u);
    return s * (T(1) - s) * (T(2) + u * (T(1) - T(2) * s));
  } else if constexpr (act == kTanh) {
    return T(-2) * a;
  } else if constexpr (act == kSigmoid) {
    return T(1) - T(2) * a;
  } else if constexpr (act == kSoftplus) {
    const T e = exp_(-a);
    return a > T(20) ? T(0) : e;
  } else {
    return T(0);
  }
}

}  // namespace gancore
