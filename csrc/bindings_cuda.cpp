// r3dad._cuda: device addresses, sizes and the stream in, nothing of torch. Imports without GPU and driver.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/ops.h"

namespace py = pybind11;
using namespace r3dad::cuda;

namespace {

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// Without a driver the query is an error: no devices.
int devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = R3DAD_COMPILER;
  info["archs"] = R3DAD_CUDA_ARCHS;
  info["runtime"] = CUDART_VERSION;
  info["version"] = R3DAD_VERSION;
  return info;
}

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

cudaStream_t stream(Address address) { return reinterpret_cast<cudaStream_t>(address); }

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The operations of r3dad on NVIDIA GPUs.";
  m.def("build_info", &build_info, "Compiler and architectures of this build.");
  m.def("devices", &devices, "Number of usable GPUs.");
  m.def(
      "philox_normal",
      [](Address seeds, int64_t batch, int64_t points, uint32_t step, uint32_t words, Address out, Address on) {
        check(philox_normal(at<const int64_t>(seeds), batch, points, step, words, at<float>(out), stream(on)));
      },
      "seeds, batch, points, step, stream of words, out [batch, points, 3], CUDA stream");
  m.def(
      "knn",
      [](Address query, Address reference, int64_t batch, int64_t queries, int64_t points, int k, Address distances, Address indices,
         Address on) {
        check(knn(at<const float>(query), at<const float>(reference), batch, queries, points, k, at<float>(distances),
                  at<int64_t>(indices), stream(on)));
      },
      "query, reference, batch, queries, points, k, distances and indices [batch, queries, k], CUDA stream");
  m.def(
      "cluster_distance",
      [](Address points, Address reconstruction, int64_t batch, int64_t n, int64_t rows, int k, Address near_points,
         Address near_reconstruction, Address means, Address out, Address on) {
        check(cluster_distance(at<const float>(points), at<const float>(reconstruction), batch, n, rows, k, at<int32_t>(near_points),
                               at<int32_t>(near_reconstruction), at<float>(means), at<float>(out), stream(on)));
      },
      "points, reconstruction, batch, n, m, k, room for neighbours [batch, n, k] and [batch, m, k], for means [3 batch (n + m)], out, "
      "CUDA stream");
  m.def(
      "displace_patch",
      [](Address good, Address seeds, int64_t batch, int64_t points, int moved, float scale, bool gaussian, int kind, Address defective,
         Address mask, Address on) {
        check(displace_patch(at<const float>(good), at<const int64_t>(seeds), batch, points, moved, scale, gaussian, kind,
                             at<float>(defective), at<bool>(mask), stream(on)));
      },
      "good, seeds, batch, points, moved, scale, gaussian, kind (below 0: drawn), defective, mask, CUDA stream");
}
