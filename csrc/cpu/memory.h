// Cache-line aligned scratch. Used by the baseline units only; the instruction-set units get plain pointers.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace r3dad {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count) {
    if (count > (static_cast<std::size_t>(-1) / 4) / sizeof(T)) throw std::bad_alloc();
    const std::size_t bytes = (count * sizeof(T) + 127) & ~static_cast<std::size_t>(63);
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (!data_) throw std::bad_alloc();
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { std::free(data_); }
  T* get() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

// Large fresh memory is about to be written: ask for huge pages, as faults of small ones cost as much as the arithmetic.
void expect_writes(void* memory, std::size_t bytes);

}  // namespace r3dad
