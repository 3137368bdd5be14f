// r3dad._cuda: device addresses, sizes and the stream in, nothing of torch. Imports without GPU and driver.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/ops.h"
#include "cuda/reverse.h"

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
  m.def(
      "gate_rows",
      [](Address column, Address bias, Address gate_time, Address gate_shape, Address shift_time, Address shift_shape, int64_t steps,
         int clouds, int total, int width, Address gates, Address on) {
        check(gate_rows(at<const int32_t>(column), at<const float>(bias), at<const float>(gate_time), at<const float>(gate_shape),
                        at<const float>(shift_time), at<const float>(shift_shape), steps, clouds, total, width, at<float2>(gates),
                        stream(on)));
      },
      "column [width], bias, gate_time, gate_shape, shift_time, shift_shape, steps, clouds, total, width, gates [steps, clouds, width, 2], "
      "CUDA stream");
  m.def(
      "reverse_steps",
      [](Address start, Address share, Address seeds, Address first, Address last, Address weights, Address gates, Address coefficients,
         Address out, int points, int clouds, int steps, const std::vector<int>& widths, float slope, int tile, int cluster,
         Address on) {
        check(reverse_steps(reverse_of(at<const float>(start), at<const float>(share), at<const int64_t>(seeds), at<const float>(first),
                                       at<const float>(last), at<const uint4>(weights), at<const float2>(gates),
                                       at<const float>(coefficients), at<float>(out), points, clouds, steps,
                                       static_cast<int>(widths.size()) - 1, widths.data(), slope),
                            tile, cluster, stream(on)));
      },
      "start, share or 0, seeds, first, last, packed weights, gates, coefficients, out, points, clouds, steps, padded widths, slope, tile "
      "or 0, blocks of a cluster or 0, CUDA stream");
}
