// The instructions behind the kernel for compute capability 9.0: matrix products of a warpgroup, bulk copies into a cluster of blocks,
// barriers in shared memory. tests/cuda/hopper.h has the same functions for the host.
#pragma once
#include <cstdint>

#include "cuda/tensor.cuh"

namespace r3dad::cuda {

// ---- blocks of a cluster ----

__device__ inline int cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
// All threads of all blocks of the cluster.
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The four warps of a group.
__device__ inline void group_sync(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); }

// A group's registers a thread, from here on; fewer in one group give more to others.
template <int COUNT>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// ---- barriers in shared memory: a phase ends when `count` arrivals and all bytes expected are there ----

__device__ inline void barrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
// Makes what was initialised known to the cluster and to bulk copies; before cluster_sync.
__device__ inline void barrier_inits_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// One arrival, and bytes that the phase waits for.
__device__ inline void barrier_expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
// One arrival at the barrier in the same place of block `rank` of the cluster; orders reads before it within its own block only.
__device__ inline void barrier_arrive(uint64_t* barrier, int rank) {
  asm volatile(
      "{\n\t.reg .b32 there;\n\tmapa.shared::cluster.u32 there, %0, %1;\n\t"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}
// Waits for the end of the phase of this parity. Ten seconds are an error in the program: the launch fails instead of hanging.
__device__ inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
  uint64_t begin = 0;
  for (;;) {
    uint32_t done;
    asm volatile(
        "{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    if (done) return;
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    if (begin == 0) begin = now;
    if (now - begin > 10'000'000'000ull) __trap();
  }
}

// ---- bulk copies, global to shared memory; multiples of 16 bytes ----

__device__ inline void bulk_copy(void* to, const void* from, int bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
// To the same place of each block of the cluster in `blocks` (a bit each), told to the barrier in the same place there.
__device__ inline void bulk_copy_to(void* to, const void* from, int bytes, uint64_t* barrier, int blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "h"(static_cast<uint16_t>(blocks))
      : "memory");
}

// ---- products: d [64, N] (+)= a [64, 16] b [N, 16]^T, a and b in shared memory ----

// Stores to shared memory that products will read; fence_stores, then a barrier of the group, before the product.
template <class T>
__device__ inline void store(void* to, T value) {
  *reinterpret_cast<T*>(to) = value;
}
__device__ inline void fence_stores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits for all groups of products but the latest LEFT.
template <int LEFT>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
// After the last wait: the compiler takes the sums from here on for changed.
template <int COUNT>
__device__ inline void products_end(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define R3DAD_SUMS_8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define R3DAD_SUMS_64(i)                                                                                                          \
  R3DAD_SUMS_8(i), R3DAD_SUMS_8(i + 8), R3DAD_SUMS_8(i + 16), R3DAD_SUMS_8(i + 24), R3DAD_SUMS_8(i + 32), R3DAD_SUMS_8(i + 40), \
      R3DAD_SUMS_8(i + 48), R3DAD_SUMS_8(i + 56)

// `a` and `b` say where the matrices lie (matrix_at in csrc/cuda/reverse_sm90.h); with `add`, d is added to, else written;
// a constant there, or the registers of d count as in use before.
__device__ inline void multiply(float (&d)[64], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, p, 1, 1, 0, 0;\n\t}"
      : R3DAD_SUMS_64(0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ inline void multiply(float (&d)[128], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %130, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, p, 1, 1, 0, 0;\n\t}"
      : R3DAD_SUMS_64(0), R3DAD_SUMS_64(64)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
#undef R3DAD_SUMS_64
#undef R3DAD_SUMS_8

}  // namespace r3dad::cuda
