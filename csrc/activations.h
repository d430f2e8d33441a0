// Activations and their derivatives over a block, twins of kernels/_activations.py. Loops, not single elements, so that the choice of the
// activation stays outside of what is vectorised.
#pragma once

#include "common.h"

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {

// The order of ACTS in kernels/_activations.py.
enum Act : int64_t { kLinear, kRelu, kLeakyRelu, kElu, kSilu, kTanh, kSigmoid, kSoftplus };

template <class T> GANCORE_INLINE void value(int64_t act, const T* u, T* a, int64_t n, T slope) {
  switch (act) {
    case kRelu: LOOP a[i] = u[i] <= T(0) ? T(0) : u[i]; break;
    case kLeakyRelu: LOOP a[i] = u[i] > T(0) ? u[i] : u[i] * slope; break;
    case kElu: LOOP { const T e = expm1_(u[i]); a[i] = u[i] > T(0) ? u[i] : e; } break;
    case kSilu: LOOP a[i] = u[i] / (T(1) + exp_(-u[i])); break;
    case kTanh: LOOP a[i] = tanh_(u[i]); break;
    case kSigmoid: LOOP a[i] = sigmoid_(u[i]); break;
    case kSoftplus: LOOP {
      const T m = u[i] > T(0) ? u[i] : (u[i] != u[i] ? u[i] : T(0));
      const T tail = log1p_unit(exp_(u[i] > T(0) ? -u[i] : u[i]));
      a[i] = u[i] > T(20) ? u[i] : m + tail;
    } break;
    default: LOOP a[i] = u[i];
  }
}

// d act / du, from the activation's value a (and from u for silu).
template <class T> GANCORE_INLINE void first(int64_t act, const T* u, const T* a, T* h, int64_t n, T slope) {
  switch (act) {
    case kRelu: LOOP h[i] = a[i] <= T(0) ? T(0) : T(1); break;
    case kLeakyRelu: LOOP h[i] = u[i] > T(0) ? T(1) : slope; break;
    case kElu: LOOP h[i] = a[i] > T(0) ? T(1) : a[i] + T(1); break;
    case kSilu: LOOP { const T s = sigmoid_(u[i]); h[i] = s * (T(1) + u[i] * (T(1) - s)); } break;
    case kTanh: LOOP h[i] = T(1) - a[i] * a[i]; break;
    case kSigmoid: LOOP h[i] = a[i] * (T(1) - a[i]); break;
    case kSoftplus: LOOP { const T e = expm1_(-a[i]); h[i] = a[i] > T(20) ? T(1) : -e; } break;
    default: LOOP h[i] = T(1);
  }
}

// dh/da where the value is what is kept, dh/du where the input is.
template <class T> GANCORE_INLINE void second(int64_t act, bool from_output, const T* u, const T* a, T* h, int64_t n) {
  switch (act) {
    case kElu: LOOP h[i] = a[i] > T(0) ? T(0) : (from_output ? T(1) : a[i] + T(1)); break;
    case kSilu: LOOP { const T s = sigmoid_(u[i]); h[i] = s * (T(1) - s) * (T(2) + u[i] * (T(1) - T(2) * s)); } break;
    case kTanh: LOOP h[i] = T(-2) * a[i] * (from_output ? T(1) : T(1) - a[i] * a[i]); break;
    case kSigmoid: LOOP h[i] = (T(1) - T(2) * a[i]) * (from_output ? T(1) : a[i] * (T(1) - a[i])); break;
    case kSoftplus: LOOP {
      const T e = exp_(-a[i]);
      h[i] = a[i] > T(20) ? T(0) : e * (from_output ? T(1) : T(1) - e);
    } break;
    default: LOOP h[i] = T(0);
  }
}

}  // namespace gancore
