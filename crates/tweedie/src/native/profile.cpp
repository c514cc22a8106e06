// LibTorch's profiler (Kineto).

#include <set>

#include <ATen/Context.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include "attempt.hpp"

extern "C" {

// Begins to record the operators of this thread, and kernels where there is CUDA.
bool tweedie_profile_begin(char* error) {
  return tweedie::attempt(error, [&] {
    using namespace torch::profiler::impl;
    const ProfilerConfig config(ProfilerState::KINETO);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (at::globalContext().hasCUDA()) {
      activities.insert(ActivityType::CUDA);
    }
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  });
}

// Ends that, and writes the trace to the file `path`.
bool tweedie_profile_end(const char* path, char* error) {
  return tweedie::attempt(
      error, [&] { torch::autograd::profiler::disableProfiler()->save(path); });
}

} // extern "C"
