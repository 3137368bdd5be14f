// r3dad._cpu: addresses and sizes in, nothing of torch. The caller (kernels/compiled.py) checks and keeps the tensors alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <vector>

#include "common/philox.h"
#include "cpu/dispatch.h"
#include "cpu/kdtree.h"
#include "cpu/kernels.h"
#include "cpu/ops.h"

namespace py = pybind11;
using namespace r3dad;

namespace {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = R3DAD_COMPILER;
  info["flags"] = R3DAD_FLAGS;
  info["isas"] = R3DAD_ISAS;
  info["version"] = R3DAD_VERSION;
  return info;
}

template <class T>
std::vector<T*> pointers(const std::vector<Address>& addresses) {
  std::vector<T*> result;
  for (Address a : addresses) result.push_back(at<T>(a));
  return result;
}

void run_encode(Address points, int64_t batch, int64_t n, int pointwise, const std::vector<int>& widths,
                const std::vector<Address>& weights, const std::vector<Address>& biases, Address out, int threads) {
  const py::gil_scoped_release release;
  encode(at<const float>(points), batch, n, static_cast<int>(weights.size()), pointwise, widths.data(),
         pointers<const float>(weights).data(), pointers<const float>(biases).data(), at<float>(out), threads);
}

void run_squash(Address x, Address weight, Address bias, Address gate, Address shift, float slope, int64_t batch, int64_t n, int in,
                int out, Address y, int threads) {
  const py::gil_scoped_release release;
  concat_squash(at<const float>(x), at<const float>(weight), at<const float>(bias), at<const float>(gate), at<const float>(shift),
                slope, batch, n, in, out, at<float>(y), threads);
}

void run_squash_backward(Address grad, Address x, Address weight, Address bias, Address gate, Address y, float slope, int64_t batch,
                         int64_t n, int in, int out, Address dx, Address dweight, Address dbias, Address dgate, Address dshift,
                         int threads) {
  const py::gil_scoped_release release;
  concat_squash_backward(at<const float>(grad), at<const float>(x), at<const float>(weight), at<const float>(bias),
                         at<const float>(gate), at<const float>(y), slope, batch, n, in, out, at<float>(dx), at<float>(dweight),
                         at<float>(dbias), at<float>(dgate), at<float>(dshift), threads);
}

void run_reverse(const std::vector<Address>& weights, const std::vector<Address>& biases, const std::vector<int>& widths,
                 int steps, Address gate_time, Address shift_time, Address coefficients, float slope, int64_t batch, int64_t points,
                 Address start, Address condition, Address gate_shape, Address shift_shape, Address seeds, int precision, Address out,
                 int threads) {
  const py::gil_scoped_release release;
  std::vector<ReverseLayer> layers;
  int64_t total = 0;
  for (std::size_t l = 0; l < weights.size(); ++l) {
    layers.push_back({widths[l], widths[l + 1], at<const float>(weights[l]), at<const float>(biases[l])});
    total += widths[l + 1];
  }
  const ReverseNet net{static_cast<int>(layers.size()), steps, total, layers.data(), at<const float>(gate_time),
                       at<const float>(shift_time), at<const float>(coefficients), slope};
  reverse_diffusion(net, batch, points, at<const float>(start), at<const float>(condition), at<const float>(gate_shape),
                    at<const float>(shift_shape), at<const int64_t>(seeds), precision, at<float>(out), threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The operations of r3dad on the CPU.";
  m.def("build_info", &build_info, "Compiler, flags and instruction sets of this build.");
  m.def("isa", [] { return std::string(kernels().name); }, "The instruction set in use.");
  m.def("available_isas", &available_isas, "Instruction sets of this build and machine, weakest first.");
  m.def("use_isa", &use_isa, py::arg("name"), "Use this instruction set from now on.");
  m.def(
      "probe",
      [](int precision, int64_t loops) {
        const py::gil_scoped_release release;
        const auto probe = kernels().probe[precision];
        return probe ? probe(loops) : 0.0;
      },
      py::arg("precision"), py::arg("loops"),
      "Run products (0: float32, 1: bfloat16, 2: int8) on registers alone, for this core's ceiling; returns their FLOP, 0 without such.");
  m.def(
      "philox_words",
      [](uint32_t point, uint32_t step, uint32_t stream, uint64_t seed) {
        const auto v = philox::words(point, step, stream, seed);
        return py::make_tuple(v.w[0], v.w[1], v.w[2], v.w[3]);
      },
      "The four words of one Philox counter.");
  m.def(
      "knn",
      [](Address query, Address reference, int64_t batch, int64_t queries, int64_t points, int k,
         Address distances, Address indices, int threads) {
        const py::gil_scoped_release release;
        knn(at<const float>(query), at<const float>(reference), batch, queries, points, k, at<float>(distances),
            at<int64_t>(indices), threads);
      },
      "query, reference, batch, queries, points, k, distances, indices, threads");
  py::class_<KdTree>(m, "KnnTree", "The tree of a reference that many searches share; keeps no pointer.")
      .def(py::init([](Address points, int64_t count, int threads) {
             const py::gil_scoped_release release;
             return knn_tree(at<const float>(points), count, threads);
           }),
           "points, count, threads")
      .def(
          "moved", [](const KdTree& tree, Address points) { return moved_kdtree(tree, at<const float>(points)); },
          "points: the same ones in other places")
      .def(
          "knn",
          [](const KdTree& tree, Address query, int64_t queries, int k, Address distances, Address indices, int threads) {
            const py::gil_scoped_release release;
            knn(tree, at<const float>(query), queries, k, at<float>(distances), at<int64_t>(indices), threads);
          },
          "query, queries, k, distances, indices, threads")
      .def(
          "knn_of",
          [](const KdTree& tree, const KdTree& queries, int k, Address distances, Address indices, int threads) {
            const py::gil_scoped_release release;
            knn(tree, queries, k, at<float>(distances), at<int64_t>(indices), threads);
          },
          "queries (a tree), k, distances, indices, threads");
  m.def(
      "nearest_row",
      [](Address query, Address reference, int64_t batch, int64_t queries, int64_t rows, int k, Address distances, Address indices,
         int threads) {
        const py::gil_scoped_release release;
        nearest_row(at<const float>(query), at<const float>(reference), batch, queries, rows, k, at<float>(distances),
                    at<int64_t>(indices), threads);
      },
      "query, reference, batch, queries, rows, k, distances, indices or 0, threads");
  m.def(
      "cluster_distance",
      [](Address points, Address reconstruction, int64_t batch, int64_t n, int64_t m, int k, Address distances, int threads) {
        const py::gil_scoped_release release;
        cluster_distance(at<const float>(points), at<const float>(reconstruction), batch, n, m, k, at<float>(distances), threads);
      },
      "points, reconstruction, batch, n, m, k, distances, threads");
  m.def("lanes", [] { return kernels().lanes; }, "Floats of a register of the instruction set in use.");
  m.def(
      "messages",
      [](Address theirs, Address own, Address edge, Address points, Address normals, Address spacing, Address index, int64_t row,
         int64_t step, int64_t n, int width, int k, Address out, int threads) {
        const py::gil_scoped_release release;
        messages(at<const float>(theirs), at<const float>(own), at<const float>(edge), at<const float>(points), at<const float>(normals),
                 at<const float>(spacing), {at<const int64_t>(index), row, step, n}, n, width, k, at<float>(out), threads);
      },
      "theirs, own, edge, points, normals, spacing, index with its strides, n, width, k, out, threads");
  m.def(
      "messages_backward",
      [](Address grad, Address theirs, Address own, Address edge, Address points, Address normals, Address spacing, Address index,
         int64_t row, int64_t step, int64_t n, int width, int k, Address of_theirs, Address of_own, Address of_edge) {
        const py::gil_scoped_release release;
        messages_backward(at<const float>(grad), at<const float>(theirs), at<const float>(own), at<const float>(edge),
                          at<const float>(points), at<const float>(normals), at<const float>(spacing),
                          {at<const int64_t>(index), row, step, n}, n, width, k, at<float>(of_theirs), at<float>(of_own),
                          at<float>(of_edge));
      },
      "grad, theirs, own, edge, points, normals, spacing, index with its strides, n, width, k, gradients of theirs, own and edge");
  m.def(
      "neighbour_mean",
      [](Address values, int64_t count, int columns, int wanted, Address index, int64_t row, int64_t step, Address weights, int64_t weight_row, int64_t weight_step,
         int64_t n, int k, Address out, int threads) {
        const py::gil_scoped_release release;
        neighbour_mean(at<const float>(values), columns, wanted, {at<const int64_t>(index), row, step, count}, at<const float>(weights), weight_row,
                       weight_step, n, k, at<float>(out), threads);
      },
      "values, their count, columns, columns wanted, index with its strides, weights with theirs, n, k, out, threads");
  m.def("encode", &run_encode, "points, batch, n, pointwise, widths (input first), weights, biases, out, threads");
  m.def("concat_squash", &run_squash, "x, weight, bias, gate, shift, slope, batch, n, in, out, y, threads");
  m.def("concat_squash_backward", &run_squash_backward,
        "grad, x, weight, bias, gate, y, slope, batch, n, in, out, dx, dweight, dbias, dgate, dshift, threads");
  m.def("reverse_diffusion", &run_reverse,
        "weights, biases, widths (input first), steps, gate_time, shift_time, coefficients, slope, batch, points, start, condition, "
        "gate_shape, shift_shape, seeds, half, out, threads");
}
