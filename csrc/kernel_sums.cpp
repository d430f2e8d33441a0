// CPU kernel of kernels/kernel_sums, which states the maths: all tiles of a sum over pairs. Products of matrices are PyTorch's, called
// tile by tile; what is between them is the pass of kernel_sums.h. No tile outlives its turn.
#include "kernel_sums.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace gancore::kernel_sums {
namespace {

// Edge of a tile: one of float32 takes 256 KB of a core's second cache, beside its points. Smaller where there are too few for all cores.
constexpr int64_t kEdge = 256, kSmallEdge = 64;
// Features up to which differences are cheaper than products, and more exact.
constexpr int64_t kFew = 16;
constexpr int64_t kNowhere = int64_t(1) << 62;

template <class T> class Buffer {
 public:
  explicit Buffer(int64_t n = 0) : data_(n ? static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64)) : nullptr) {
    if (n && !data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }

 private:
  struct Free { void operator()(T* p) const { std::free(p); } };
  std::unique_ptr<T[], Free> data_;
};

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

template <class T> const T* data(const std::optional<Tensor>& t) {
  return t.has_value() ? static_cast<const T*>(t->const_data_ptr()) : nullptr;
}
template <class T> T* fill(const std::optional<Tensor>& t) {
  return t.has_value() ? static_cast<T*>(t->mutable_data_ptr()) : nullptr;
}

template <class T> Tensor matrix(const T* data, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
  const int64_t sizes[] = {rows, cols}, strides[] = {row_stride, col_stride};
  constexpr ScalarType type = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(const_cast<T*>(data), {sizes, 2}, {strides, 2}, cpu, type);
}

// out = beta out + alpha a b
void multiply(Tensor out, const Tensor& a, const Tensor& b, double beta, double alpha) {
  STABLE_TORCH_ERROR_CODE_CHECK(
      beta == 0 ? aoti_torch_cpu_mm_out(out.get(), a.get(), b.get())
                : aoti_torch_cpu_addmm_out(out.get(), out.get(), a.get(), b.get(), beta, alpha));
}

// One sample: its points, what belongs to them, and what is found for them. Null where there is none or none is wanted.
template <class T> struct Side {
  int64_t n, features, several;  // several: numbers in a weight, 0 for one
  const T *points, *weights, *tangent, *weight_tangent;
  T *gradient, *several_gradient;  // by points, and by weights (n, several)
  double* one_gradient;            // by weights (n,)
  Buffer<T> shifted, across, across_tangent, norms, slopes;
  std::vector<double> sums;        // (3, n)

  Side(const Tensor& x, const Tensor& u, const std::optional<Tensor>& px, const std::optional<Tensor>& pu,
       const std::optional<Tensor>& gx, const std::optional<Tensor>& gu)
      : n(x.size(0)), features(x.size(1)), several(u.size(1) > 1 ? u.size(1) : 0),
        points(static_cast<const T*>(x.const_data_ptr())), weights(static_cast<const T*>(u.const_data_ptr())), tangent(data<T>(px)),
        weight_tangent(data<T>(pu)), gradient(fill<T>(gx)), several_gradient(several ? fill<T>(gu) : nullptr),
        one_gradient(several ? nullptr : fill<double>(gu)), sums(kSums * n) {}

  // The mean of the points, 0 where it is not finite: a point amid the sample.
  std::vector<T> center() const {
    std::vector<double> total(features);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t f = 0; f < features; ++f) total[f] += double(points[i * features + f]);
    std::vector<T> found(features);
    for (int64_t f = 0; f < features; ++f) {
      const T mean = T(total[f] / double(std::max<int64_t>(n, 1)));
      found[f] = std::isfinite(mean) ? mean : T(0);
    }
    return found;
  }

  void shift(const std::vector<T>& center) {
    shifted = Buffer<T>(n * features);
    T* to = shifted.get();
    for (int64_t i = 0; i < n; ++i)
      for (int64_t f = 0; f < features; ++f) to[i * features + f] = points[i * features + f] - center[f];
    points = to;
  }

  static Buffer<T> transposed(const T* from, int64_t n, int64_t features) {
    Buffer<T> to(from ? n * features : 0);
    for (int64_t f = 0; from && f < features; ++f)
      for (int64_t i = 0; i < n; ++i) to.get()[f * n + i] = from[i * features + f];
    return to;
  }

  static Buffer<T> products(const T* a, const T* b, int64_t n, int64_t features) {
    Buffer<T> to(b ? n : 0);
    for (int64_t i = 0; b && i < n; ++i) to.get()[i] = inner_product(a + i * features, b + i * features, features);
    return to;
  }
};

struct Form {
  int order, metric;
  int64_t block;
  bool diagonal, parameters;
  std::vector<Term> terms;
};

template <class T> class Sweep {
 public:
  Sweep(const Form& form, Side<T>& left, Side<T>& right, double* sums)
      : form_(form), left_(left), right_(right), sums_(sums), same_(&left == &right),
        direct_(form.metric == kAbsolute || (form.metric == kSquared && left.features <= kFew)), absolute_(form.metric == kAbsolute) {
    if (form.metric == kSquared) {
      const std::vector<T> center = right.center();
      right.shift(center);
      if (!same_) left.shift(center);
    }
    for (Side<T>* side : {&left, &right}) {
      if (direct_) {
        side->across = side->transposed(side->points, side->n, side->features);
        side->across_tangent = side->transposed(side->tangent, side->n, side->features);
      } else if (form.metric == kSquared) {
        side->norms = side->products(side->points, side->points, side->n, side->features);
        side->slopes = side->products(side->points, side->tangent, side->n, side->features);
      }
    }
  }

  // Tiles go in rounds. Those of one round share neither rows nor columns, nor, where the sum is symmetric, the one with the other: each
  // adds to its points' gradients alone, on any number of threads, in the same order.
  void run() {
    const int64_t n = left_.n, m = right_.n, block = form_.block ? form_.block : std::max<int64_t>({n, m, 1});
    const int64_t most = std::min(block, std::max(n, m)), threads = torch::stable::get_num_threads();
    int64_t edge = kEdge;
    while (edge > kSmallEdge && (most + edge - 1) / edge < 2 * threads) edge /= 2;
    edge_ = std::min(edge, std::max<int64_t>(most, 1));
    std::vector<std::vector<Visit>> rounds;
    for (int64_t start = 0; start < n; start += block)
      add_rounds({start, std::min(start + block, n)}, {start, std::min(start + block, m)}, rounds);
    for (const std::vector<Visit>& visits : rounds) go(visits);
    finish(left_);
    if (!same_) finish(right_);
  }

 private:
  struct Visit {
    Range rows, cols;
    bool mirrored;  // a symmetric sum has another tile like this one
  };

  struct Space {
    Buffer<T> d, p, c, pc, k, q, columns;
    std::vector<double> rows;
  };

  Range tile_of(Range all, int64_t i) const { return {all.begin + i * edge_, std::min(all.begin + (i + 1) * edge_, all.end)}; }

  // Blocks of an estimator have nothing in common, so that their rounds go together.
  void add_rounds(Range rows, Range cols, std::vector<std::vector<Visit>>& rounds) const {
    const int64_t high = (rows.size() + edge_ - 1) / edge_, wide = (cols.size() + edge_ - 1) / edge_;
    const int64_t count = same_ ? high + 2 : std::max(high, wide);
    if (int64_t(rounds.size()) < count) rounds.resize(count);
    for (int64_t r = 0; r < count; ++r) {
      if (!same_) {
        for (int64_t i = 0; i < count; ++i)
          if (const int64_t j = (i + r) % count; i < high && j < wide) rounds[r].push_back({tile_of(rows, i), tile_of(cols, j), false});
        continue;
      }
      // A tournament: in round r those meet whose numbers add up to r; the last of an even number stays, the others turn.
      // A tile on the diagonal is symmetric itself, and goes as two halves and what is between them.
      for (int64_t i = 0; r >= high && i < high; ++i) {
        const Range all = tile_of(rows, i), one{all.begin, all.begin + (all.size() + 1) / 2}, two{one.end, all.end};
        if (r == high) rounds[r].push_back({one, one, false});
        if (two.size()) rounds[r].push_back(r == high ? Visit{two, two, false} : Visit{one, two, true});
      }
      if (r >= high) continue;
      const int64_t turning = high - (high % 2 == 0);
      for (int64_t i = 0; i < turning && r < turning; ++i) {
        int64_t j = ((r - i) % turning + turning) % turning;
        if (j == i) j = high % 2 == 0 ? high - 1 : i;
        if (i < j) rounds[r].push_back({tile_of(rows, i), tile_of(rows, j), true});
      }
    }
  }

  void go(const std::vector<Visit>& visits) {
    const int64_t numbers = 1 + 3 * int64_t(form_.terms.size()), count = int64_t(visits.size());
    std::vector<double> parts(count * numbers);
    torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
      Space space = this->space();
      for (int64_t i = first; i < last; ++i) visit(visits[i], space, parts.data() + i * numbers);
    });
    for (int64_t i = 0; sums_ && i < count; ++i)
      for (int64_t s = 0; s < numbers; ++s) sums_[s] += (visits[i].mirrored ? 2 : 1) * parts[i * numbers + s];
  }

  Space space() const {
    const int64_t size = edge_ * edge_;
    const bool second = form_.order == 2, several = left_.several && form_.order > 0;
    const bool values = left_.several_gradient || right_.several_gradient;
    auto need = [&](bool is) { return Buffer<T>(is ? size : 0); };
    return {need(true), need(second), need(several), need(several && second), need(values), need(values && second),
            Buffer<T>(kSums * edge_), std::vector<double>(kSums * edge_)};
  }

  void visit(const Visit& at, Space& space, double* sums) {
    fill_tile(at.rows, at.cols, space);
    pass(at, space, sums);
    gather(left_, right_, at.rows, at.cols, false, space);
    if (at.mirrored || !same_) gather(right_, left_, at.cols, at.rows, true, space);
  }

  Tensor part(const T* of, Range range, int64_t width) const { return matrix(of + range.begin * width, range.size(), width, width, 1); }
  Tensor turned(const T* of, Range range, int64_t width) const { return matrix(of + range.begin * width, width, range.size(), 1, width); }
  Tensor tile(const T* of, Range rows, Range cols) const { return matrix(of, rows.size(), cols.size(), cols.size(), 1); }

  // Products or distances of points into d, those of tangents and points into p; of weights into c and pc.
  void fill_tile(Range rows, Range cols, Space& space) {
    if (direct_) {
      differences(rows, cols, space);
    } else {
      products(rows, cols, left_.points, right_.points, left_.tangent, right_.tangent, left_.features, space.d.get(), space.p.get());
    }
    if (space.c.get())
      products(rows, cols, left_.weights, right_.weights, left_.weight_tangent, right_.weight_tangent, left_.several, space.c.get(),
               space.pc.get());
  }

  void products(Range rows, Range cols, const T* x, const T* y, const T* px, const T* py, int64_t width, T* d, T* p) {
    multiply(tile(d, rows, cols), part(x, rows, width), turned(y, cols, width), 0, 1);
    if (!p) return;
    if (px) multiply(tile(p, rows, cols), part(px, rows, width), turned(y, cols, width), 0, 1);
    if (!px) std::fill(p, p + rows.size() * cols.size(), T(0));
    if (py) multiply(tile(p, rows, cols), part(x, rows, width), turned(py, cols, width), 1, 1);
  }

  void differences(Range rows, Range cols, Space& space) {
    const int64_t features = left_.features, m = right_.n, width = cols.size();
    const T *y = right_.across.get() + cols.begin, *py = right_.across_tangent.get() ? right_.across_tangent.get() + cols.begin : nullptr;
    for (int64_t i = 0; i < rows.size(); ++i) {
      const int64_t at = (rows.begin + i) * features;
      distances(absolute_, left_.points + at, y, space.d.get() + i * width, width, features, m);
      if (T* p = space.p.get())
        inner(absolute_, left_.points + at, y, left_.tangent ? left_.tangent + at : nullptr, py, p + i * width, width, features, m);
    }
  }

  void pass(const Visit& at, Space& space, double* sums) {
    const Range &rows = at.rows, &cols = at.cols;
    const bool several = left_.several, meets = same_ && !at.mirrored;
    auto from = [](const T* all, Range range) { return all ? all + range.begin : nullptr; };
    const T *u = several ? nullptr : left_.weights, *v = several ? nullptr : right_.weights;
    const T *pu = several ? nullptr : left_.weight_tangent, *pv = several ? nullptr : right_.weight_tangent;
    const int64_t height = rows.size(), width = cols.size(), features = left_.features;
    const Tile<T> t{space.d.get(), space.p.get(), left_.points + rows.begin * features, right_.points + cols.begin * features,
                    left_.tangent ? left_.tangent + rows.begin * features : nullptr,
                    right_.tangent ? right_.tangent + cols.begin * features : nullptr, from(left_.norms.get(), rows),
                    from(right_.norms.get(), cols), from(left_.slopes.get(), rows), from(right_.slopes.get(), cols), from(u, rows),
                    from(v, cols), from(pu, rows), from(pv, cols), space.c.get(), space.pc.get(), space.k.get(), space.q.get(),
                    space.rows.data(), width, features, width, meets ? 0 : kNowhere, form_.metric, !form_.diagonal, form_.parameters,
                    form_.terms};
    const bool columns = form_.order && (at.mirrored ? left_.gradient || left_.one_gradient
                                                     : !same_ && (right_.gradient || right_.one_gradient));
    T* across = columns ? space.columns.get() : nullptr;
    if (across) std::fill(across, across + kSums * width, T(0));
    kernel_sums::rows(form_.order, t, 0, height, across, sums);
    for (int64_t i = 0; i < height; ++i)
      for (int s = 0; s < kSums; ++s) left_.sums[s * left_.n + rows.begin + i] += space.rows[i * kSums + s];
    for (int s = 0; across && s < kSums; ++s)
      for (int64_t j = 0; j < width; ++j) right_.sums[s * right_.n + cols.begin + j] += double(across[s * width + j]);
  }

  // What the points `other` of one side give to the points `mine` of the other; turn: the tile lies the other way.
  void gather(Side<T>& to, Side<T>& far, Range mine, Range other, bool turn, Space& space) {
    const Range &rows = turn ? other : mine, &cols = turn ? mine : other;
    auto weights = [&](const T* of) {
      return turn ? matrix(of, mine.size(), other.size(), 1, cols.size()) : matrix(of, rows.size(), cols.size(), cols.size(), 1);
    };
    if (form_.order && to.gradient) {
      if (direct_) {
        add_differences(to, far, mine, other, turn, space.d.get(), to.points, far.points, to.across.get(), far.across.get());
        if (form_.order == 2 && !absolute_)
          add_differences(to, far, mine, other, turn, space.p.get(), to.tangent, far.tangent, to.across_tangent.get(), far.across_tangent.get());
      } else {
        const double sign = form_.metric == kDot ? 1 : -1;
        multiply(part(to.gradient, mine, to.features), weights(space.d.get()), part(far.points, other, far.features), 1, sign);
        if (form_.order == 2 && far.tangent)
          multiply(part(to.gradient, mine, to.features), weights(space.p.get()), part(far.tangent, other, far.features), 1, sign);
      }
    }
    if (!to.several_gradient) return;
    // k v in the first order; psi p v + k pv in the second.
    const Tensor out = part(to.several_gradient, mine, to.several);
    multiply(out, weights(form_.order == 2 ? space.q.get() : space.k.get()), part(far.weights, other, to.several), 1, 1);
    if (far.weight_tangent) multiply(out, weights(space.k.get()), part(far.weight_tangent, other, to.several), 1, 1);
  }

  void add_differences(Side<T>& to, Side<T>& far, Range mine, Range other, bool turn, const T* w, const T* x, const T* y, const T* x_across,
                       const T* y_across) {
    const int64_t features = to.features;
    T* g = to.gradient + mine.begin * features;
    const T *own = x ? x + mine.begin * features : nullptr, *others = y ? y + other.begin * features : nullptr;
    if (turn) return columns(absolute_, w, mine.size(), others, x_across ? x_across + mine.begin : nullptr, g, other.size(), mine.size(), features, to.n);
    for (int64_t i = 0; i < mine.size(); ++i)
      row(absolute_, w + i * other.size(), own ? own + i * features : nullptr, y_across ? y_across + other.begin : nullptr, g + i * features,
          other.size(), features, far.n);
  }

  void finish(Side<T>& side) {
    const T times = T(same_ ? 2 : 1);
    for (int64_t i = 0; side.gradient && i < side.n; ++i) {
      T* g = side.gradient + i * side.features;
      if (form_.metric == kSquared && !direct_) {
        const T w = T(side.sums[kWeights * side.n + i]), second = T(side.sums[kSeconds * side.n + i]);
        const T *x = side.points + i * side.features, *px = side.tangent ? side.tangent + i * side.features : nullptr;
        for (int64_t f = 0; f < side.features; ++f) g[f] += w * x[f] + (px ? second * px[f] : T(0));
      }
      for (int64_t f = 0; same_ && f < side.features; ++f) g[f] *= times;
    }
    for (int64_t i = 0; side.one_gradient && i < side.n; ++i) side.one_gradient[i] = double(times) * side.sums[kValues * side.n + i];
    for (int64_t i = 0; same_ && side.several_gradient && i < side.n * side.several; ++i) side.several_gradient[i] *= times;
  }

  const Form& form_;
  Side<T> &left_, &right_;
  double* sums_;
  bool same_, direct_, absolute_;
  int64_t edge_ = kEdge;
};

// The sum over all pairs of x and y, or of x with itself. Tensors are contiguous: points and tangents (rows, features), weights (rows, E)
// of their type; params (n, 3) double: w, a, b. gx, gy and, of several weights, gu, gv have the type of the points and are added to;
// of one weight gu, gv are double. sums (1 + 3 n) double receives the value and the derivatives by parameters. Order 0 gives K v in gu.
void sweep(int64_t order, const Tensor x, std::optional<Tensor> y, const Tensor u, std::optional<Tensor> v, std::optional<Tensor> px,
           std::optional<Tensor> py, std::optional<Tensor> pu, std::optional<Tensor> pv, std::optional<Tensor> gx,
           std::optional<Tensor> gy, std::optional<Tensor> gu, std::optional<Tensor> gv, std::optional<Tensor> sums, const Tensor params,
           std::vector<int64_t> codes, int64_t metric, bool diagonal, int64_t block, bool parameters) {
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "kernel sums: the native kernel takes float32 and float64");
  STD_TORCH_CHECK(y.has_value() == v.has_value(), "kernel sums: y and v go together");
  Form form{int(order), int(metric), block, diagonal, parameters, {}};
  STD_TORCH_CHECK(params.numel() == 3 * int64_t(codes.size()), "kernel sums: ", codes.size(), " terms of three parameters each");
  const double* row = static_cast<const double*>(params.const_data_ptr());
  for (int64_t code : codes) form.terms.push_back({int(code) % kKinds, int(code) / kKinds, row[0], row[1], row[2]}), row += 3;
  auto run = [&](auto zero) {
    using T = decltype(zero);
    Side<T> left(x, u, px, pu, gx, gu);
    if (!y.has_value()) return Sweep<T>(form, left, left, fill<double>(sums)).run();
    Side<T> right(*y, *v, py, pv, gy, gv);
    Sweep<T>(form, left, right, fill<double>(sums)).run();
  };
  type == ScalarType::Float ? run(float{}) : run(double{});
}

}  // namespace
}  // namespace gancore::kernel_sums

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def(
      "kernel_sums_native(int order, Tensor x, Tensor? y, Tensor u, Tensor? v, Tensor? px, Tensor? py, Tensor? pu, Tensor? pv, "
      "Tensor(a!)? gx, Tensor(b!)? gy, Tensor(c!)? gu, Tensor(d!)? gv, Tensor(e!)? sums, Tensor params, int[] codes, int metric, bool diagonal, "
      "int block, bool parameters) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) { m.impl("kernel_sums_native", TORCH_BOX(&gancore::kernel_sums::sweep)); }
