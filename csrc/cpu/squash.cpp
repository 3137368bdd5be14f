// Work items of one concat-squash layer. Sums over clouds and points are taken in an order that depends on the shapes alone.
#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "memory.h"
#include "ops.h"
#include "parallel.h"

namespace r3dad {
namespace {

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// work(cloud, first row, rows, scratch) for tiles of every cloud.
template <class Work>
void over_tiles(int64_t batch, int64_t n, int in, int out, int threads, const Work& work) {
  const Kernels& isa = kernels();
  const int64_t tile = 8 * isa.unit, tiles = (n + tile - 1) / tile;
  std::vector<Buffer<char>> scratch;
  for (int i = 0; i < workers(batch * tiles, threads); ++i)
    scratch.emplace_back(isa.squash_scratch_bytes(in, out, static_cast<int>(tile)));
  parallel_for(batch * tiles, threads, [&](int64_t item, int worker) {
    const int64_t first = item % tiles * tile;
    work(item / tiles, first, static_cast<int>(std::min(tile, n - first)), scratch[worker].get());
  });
}

}  // namespace

void concat_squash(const float* x, const float* weight, const float* bias, const float* gate, const float* shift, float slope,
                   int64_t batch, int64_t n, int in, int out, float* y, int threads) {
  if (batch == 0 || n == 0 || out == 0) return;
  const Kernels& isa = kernels();
  expect_writes(y, sizeof(float) * batch * n * out);
  const int64_t wide = round_up(out, isa.panel);
  const Buffer<float> packed(in * wide), gates(batch * wide), shifts(batch * wide);
  isa.pack(weight, in, in, out, packed.get());
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t c = 0; c < wide; ++c) {
      const int64_t from = b * out + c;
      gates[b * wide + c] = c < out ? gate[from] : 0.0f;
      shifts[b * wide + c] = c < out ? bias[c] * gate[from] + shift[from] : 0.0f;
    }
  over_tiles(batch, n, in, out, threads, [&](int64_t cloud, int64_t first, int rows, char* scratch) {
    const int64_t row = cloud * n + first;
    isa.squash_forward({rows, in, out, x + row * in, packed.get(), gates.get() + cloud * wide, shifts.get() + cloud * wide, slope,
                        y + row * out},
                       scratch);
  });
}

void concat_squash_backward(const float* grad, const float* x, const float* weight, const float* bias, const float* gate, const float* y,
                            float slope, int64_t batch, int64_t n, int in, int out, float* dx, float* dweight, float* dbias,
                            float* dgate, float* dshift, int threads) {
  std::fill(dweight, dweight + static_cast<int64_t>(in) * out, 0.0f);
  std::fill(dbias, dbias + out, 0.0f);
  std::fill(dgate, dgate + batch * out, 0.0f);
  std::fill(dshift, dshift + batch * out, 0.0f);
  if (batch == 0 || out == 0) return;
  const Kernels& isa = kernels();
  expect_writes(dx, sizeof(float) * batch * n * in);
  const Buffer<float> packed(out * round_up(in, isa.panel));
  isa.pack_transposed(weight, out, in, packed.get());
  over_tiles(batch, n, in, out, threads, [&](int64_t cloud, int64_t first, int rows, char* scratch) {
    const int64_t row = cloud * n + first;
    isa.squash_backward_x({rows, in, out, grad + row * out, y + row * out, packed.get(), gate + cloud * out, slope, dx + row * in},
                          scratch);
  });

  // Weight: clouds in groups, a sum per group, then the sum of the groups; output columns in slabs where the groups are too few.
  const int64_t groups = std::min<int64_t>(batch, 8);
  const int64_t slabs_wanted = std::max<int64_t>(1, 4 * threads / groups);
  const int64_t slab = threads > 1 ? round_up((out + slabs_wanted - 1) / slabs_wanted, isa.unit) : round_up(out, isa.unit);
  const int64_t slabs = (out + slab - 1) / slab, wide = round_up(in, isa.panel);
  std::vector<Buffer<float>> partial;
  for (int64_t g = 0; g < groups; ++g) partial.emplace_back(static_cast<std::size_t>(in) * out);
  struct Worker {
    Buffer<float> product;
    Buffer<char> scratch;
  };
  std::vector<Worker> pool;
  for (int i = 0; i < workers(groups * slabs, threads); ++i)
    pool.push_back({Buffer<float>(isa.squash_product_bytes(in, static_cast<int>(slab)) / sizeof(float)),
                    Buffer<char>(isa.squash_product_scratch_bytes(in, static_cast<int>(slab)))});
  parallel_for(groups * slabs, threads, [&](int64_t item, int worker) {
    const int64_t group = item / slabs, m0 = item % slabs * slab;
    const int columns = static_cast<int>(std::min(slab, out - m0));
    float *product = pool[worker].product.get(), *total = partial[group].get() + m0 * in;
    std::fill(total, total + static_cast<int64_t>(columns) * in, 0.0f);
    for (int64_t cloud = group * batch / groups; cloud < (group + 1) * batch / groups; ++cloud) {
      std::fill(product, product + round_up(columns, isa.unit) * wide, 0.0f);
      float* sums = dshift + cloud * out + m0;
      for (int64_t r = 0; r < n; r += kProductRows) {
        const int64_t row = cloud * n + r;
        isa.squash_product({static_cast<int>(std::min<int64_t>(kProductRows, n - r)), in, out, columns, grad + row * out + m0,
                            y + row * out + m0, x + row * in, slope, product, sums},
                           pool[worker].scratch.get());
      }
      for (int m = 0; m < columns; ++m) {
        const float g = gate[cloud * out + m0 + m];
        const float *p = product + m * wide, *w = weight + (m0 + m) * in;
        double dot = 0;
        for (int j = 0; j < in; ++j) {
          dot += static_cast<double>(p[j]) * w[j];
          total[static_cast<int64_t>(m) * in + j] += g * p[j];
        }
        dgate[cloud * out + m0 + m] = static_cast<float>(dot + static_cast<double>(sums[m]) * bias[m0 + m]);
      }
    }
  });
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t i = 0; i < static_cast<int64_t>(in) * out; ++i) dweight[i] += partial[g][i];
  for (int64_t b = 0; b < batch; ++b)
    for (int m = 0; m < out; ++m) dbias[m] += dshift[b * out + m] * gate[b * out + m];
}

}  // namespace r3dad
