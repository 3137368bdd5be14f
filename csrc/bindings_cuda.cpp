// r3dad._cuda: device addresses, sizes and the stream in, nothing of torch. Imports without GPU and driver.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/ops.h"

namespace py = pybind11;

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

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The operations of r3dad on NVIDIA GPUs.";
  m.def("build_info", &build_info, "Compiler and architectures of this build.");
  m.def("devices", &devices, "Number of usable GPUs.");
  m.def(
      "philox_normal",
      [](std::uintptr_t seeds, int64_t batch, int64_t points, uint32_t step, uint32_t stream, std::uintptr_t out,
         std::uintptr_t on) {
        const py::gil_scoped_release release;
        const cudaError_t error =
            r3dad::cuda::philox_normal(reinterpret_cast<const int64_t*>(seeds), batch, points, step, stream,
                                       reinterpret_cast<float*>(out), reinterpret_cast<cudaStream_t>(on));
        if (error != cudaSuccess) {
          const py::gil_scoped_acquire acquire;
          check(error);
        }
      },
      "seeds, batch, points, step, stream, out [batch, points, 3], CUDA stream");
  m.def(
      "knn",
      [](std::uintptr_t query, std::uintptr_t reference, int64_t batch, int64_t queries, int64_t points, int k,
         std::uintptr_t distances, std::uintptr_t indices, std::uintptr_t on) {
        check(r3dad::cuda::knn(reinterpret_cast<const float*>(query), reinterpret_cast<const float*>(reference), batch,
                               queries, points, k, reinterpret_cast<float*>(distances),
                               reinterpret_cast<int64_t*>(indices), reinterpret_cast<cudaStream_t>(on)));
      },
      "query, reference, batch, queries, points, k, distances and indices [batch, queries, k], CUDA stream");
}
