// CPU kernels of kernels/_conv/products.py, convolutions as matrix products. A row of such a product belongs to a position of the small side
// and holds, tap by tap, what it exchanges with the large side: `overlap` adds rows where they meet, `unfold` reads them.
#include "common.h"

#include <array>
#include <vector>

namespace gancore {
namespace {

using Sizes = std::array<int64_t, 3>;

struct Sides {
  int64_t images, channels;
  Sizes small, large, kernel, stride, padding;

  static int64_t product(const Sizes& of) { return of[0] * of[1] * of[2]; }
  int64_t row() const { return product(kernel) * channels; }
};

// The taps of one dimension with which position i of the small side meets the large one, the first of them at `at`.
struct Taps { int64_t first, last, at; };

GANCORE_INLINE Taps taps(const Sides& sides, int d, int64_t i) {
  const int64_t at = i * sides.stride[d] - sides.padding[d], first = std::max<int64_t>(0, -at);
  return {first, std::max(first, std::min(sides.kernel[d], sides.large[d] - at)), at + first};
}

// visit(offset in the row, offset in an image whose channels lie innermost, elements): the taps of a line, which lie side by side in both.
template <class Visit> GANCORE_INLINE void lines(const Sides& sides, int64_t z, int64_t y, int64_t x, Visit visit) {
  const Taps tz = taps(sides, 0, z), ty = taps(sides, 1, y), tx = taps(sides, 2, x);
  if (tx.first == tx.last) return;
  for (int64_t a = tz.first; a < tz.last; ++a)
    for (int64_t b = ty.first; b < ty.last; ++b) {
      const int64_t line = (tz.at + a - tz.first) * sides.large[1] + ty.at + b - ty.first;
      visit(((a * sides.kernel[1] + b) * sides.kernel[2] + tx.first) * sides.channels, (line * sides.large[2] + tx.at) * sides.channels,
            (tx.last - tx.first) * sides.channels);
    }
}

// visit(row, z, y, x) for the positions of the small side.
template <class Visit> GANCORE_INLINE void positions(const Sides& sides, Visit visit) {
  int64_t row = 0;
  for (int64_t z = 0; z < sides.small[0]; ++z)
    for (int64_t y = 0; y < sides.small[1]; ++y)
      for (int64_t x = 0; x < sides.small[2]; ++x) visit(row++, z, y, x);
}

template <int64_t n, class S, class T> GANCORE_INLINE void add(const S* from, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += load(from[i]);
}

// Lines of few channels are short: with their length known they are a few instructions.
template <class S, class T> GANCORE_INLINE void add(const S* from, T* to, int64_t n) {
  switch (n) {
    case 4: return add<4>(from, to);
    case 6: return add<6>(from, to);
    case 8: return add<8>(from, to);
    case 9: return add<9>(from, to);
    case 12: return add<12>(from, to);
    case 16: return add<16>(from, to);
    default:
      for (int64_t i = 0; i < n; ++i) to[i] += load(from[i]);
  }
}

// One image: rows (positions, taps, channels) into `out`, by way of sums (*large, channels).
template <class S, class T> GANCORE_INLINE void overlap(const Sides& sides, const S* rows, T* sums, S* out, int64_t channel_stride, int64_t pixel_stride) {
  const int64_t pixels = Sides::product(sides.large), channels = sides.channels;
  std::fill_n(sums, Sides::product(sides.large) * sides.channels, T(0));
  positions(sides, [&](int64_t row, int64_t z, int64_t y, int64_t x) GANCORE_LAMBDA {
    const S* from = rows + row * sides.row();
    lines(sides, z, y, x, [&](int64_t in_row, int64_t in_image, int64_t n) GANCORE_LAMBDA {
      add(from + in_row, sums + in_image, n);
    });
  });
  if (channel_stride == 1 && pixel_stride == channels) {
    for (int64_t i = 0; i < pixels * channels; ++i) store(out[i], sums[i]);
  } else {
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < channels; ++c) store(out[p * pixel_stride + c * channel_stride], sums[p * channels + c]);
  }
}

#define GANCORE_OVERLAP(S, T)                                                                                                       \
  GANCORE_CLONES void overlap_of(const Sides& sides, const S* rows, T* sums, S* out, int64_t channel_stride, int64_t pixel_stride) { \
    overlap(sides, rows, sums, out, channel_stride, pixel_stride);                                                                  \
  }
GANCORE_OVERLAP(float, float)
GANCORE_OVERLAP(double, double)
GANCORE_OVERLAP(Bf16, float)
GANCORE_OVERLAP(Half, float)

// sizes: int64 (5, 3).
Sides sides_of(int64_t images, int64_t channels, const Tensor& sizes) {
  Sides sides{images, channels};
  const int64_t* of = static_cast<const int64_t*>(sizes.const_data_ptr());
  for (Sizes* row : {&sides.small, &sides.large, &sides.kernel, &sides.stride, &sides.padding})
    for (int64_t& size : *row) size = *of++;
  return sides;
}

// out (images, channels, *large) of any strides that pixels have one of. An image's sums are formed by one thread, in one order.
void overlap_native(const Tensor rows, Tensor out, const Tensor sizes, int64_t image_stride, int64_t channel_stride, int64_t pixel_stride) {
  const Sides sides = sides_of(out.size(0), out.size(1), sizes);
  const int64_t pixels = Sides::product(sides.large), channels = sides.channels, each = Sides::product(sides.small) * sides.row();
  by_dtype(rows.scalar_type(), "convolution", [&](auto stored) {
    using S = decltype(stored);
    torch::stable::parallel_for(0, sides.images, 1, [&](int64_t first, int64_t last) {
      std::vector<typename Compute<S>::type> sums(pixels * channels);
      for (int64_t image = first; image < last; ++image)
        overlap_of(sides, static_cast<const S*>(rows.const_data_ptr()) + image * each, sums.data(),
                   static_cast<S*>(out.mutable_data_ptr()) + image * image_stride, channel_stride, pixel_stride);
    });
  });
}

// x (images, *large, channels), contiguous, into rows (images, *small, *kernel, channels), with zeros beyond its edges.
void unfold_native(const Tensor x, Tensor rows, const Tensor sizes, int64_t images, int64_t channels) {
  const Sides sides = sides_of(images, channels, sizes);
  const int64_t pixels = Sides::product(sides.small), row_size = sides.row(), image_size = Sides::product(sides.large) * channels;
  by_dtype(x.scalar_type(), "convolution", [&](auto stored) {
    using S = decltype(stored);
    torch::stable::parallel_for(0, images, 1, [&](int64_t first, int64_t last) {
      for (int64_t image = first; image < last; ++image) {
        const S* from = static_cast<const S*>(x.const_data_ptr()) + image * image_size;
        S* to = static_cast<S*>(rows.mutable_data_ptr()) + image * pixels * row_size;
        positions(sides, [&](int64_t row, int64_t z, int64_t y, int64_t x) {
          int64_t done = 0;
          const auto clear = [&](int64_t until) { std::memset(to + row * row_size + done, 0, (until - done) * sizeof(S)); };
          lines(sides, z, y, x, [&](int64_t in_row, int64_t in_image, int64_t n) {
            clear(in_row);
            std::memcpy(to + row * row_size + in_row, from + in_image, n * sizeof(S));
            done = in_row + n;
          });
          clear(row_size);
        });
      }
    });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def("conv_overlap_native(Tensor rows, Tensor(a!) out, Tensor sizes, int image_stride, int channel_stride, int pixel_stride) -> ()");
  m.def("conv_unfold_native(Tensor x, Tensor(a!) rows, Tensor sizes, int images, int channels) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) {
  m.impl("conv_overlap_native", TORCH_BOX(&gancore::overlap_native));
  m.impl("conv_unfold_native", TORCH_BOX(&gancore::unfold_native));
}
