// Parts of a network whose activations are not kept for the way back, but computed again there.

#include <cstdint>
#include <mutex>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "attempt.hpp"

namespace {

// The output anew, from activations; null where that panicked. Whoever called owns it.
using Again = at::Tensor* (*)(void* context, const at::Tensor* const* activations, std::size_t);

at::Generator generator(at::Device device) {
  return device.is_cpu() ? at::detail::getDefaultCPUGenerator()
                         : at::globalContext().defaultGenerator(device);
}

at::Tensor state_of(at::Generator generator) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator generator, const at::Tensor& state) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

// A part of a network.
struct Part : torch::CustomClassHolder {
  at::Tensor output;
  // of LibTorch's generator before the part, where it draws
  at::Tensor state;
  std::int64_t activations;
  void* context;
  Again again;
  void (*drop)(void*);

  ~Part() override {
    drop(context);
  }
};

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static at::Tensor forward(
      torch::autograd::AutogradContext* context,
      at::TensorList inputs,
      const c10::intrusive_ptr<Part>& part) {
    context->save_for_backward(inputs.vec());
    context->saved_data["part"] = c10::IValue::make_capsule(part);
    return std::move(part->output);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    TORCH_CHECK(
        !at::GradMode::is_enabled(),
        "activations that are computed again have no second derivatives");
    const auto inputs = context->get_saved_variables();
    const auto part =
        c10::static_intrusive_pointer_cast<Part>(context->saved_data["part"].toCapsule());
    at::AutoGradMode enabled(true);
    auto sources = inputs;
    std::vector<const at::Tensor*> activations;
    for (std::int64_t i = 0; i < part->activations; i++) {
      sources[i] = inputs[i].detach().set_requires_grad(inputs[i].requires_grad());
      activations.push_back(&sources[i]);
    }
    at::Tensor now;
    const auto draws = part->state.defined();
    const auto device = gradients[0].device();
    if (draws) {
      now = state_of(generator(device));
      set_state(generator(device), part->state);
    }
    const std::unique_ptr<at::Tensor> output(
        part->again(part->context, activations.data(), activations.size()));
    if (draws) {
      set_state(generator(device), now);
    }
    TORCH_CHECK(output, "a part of a network failed where it was computed again");
    torch::autograd::variable_list wanted;
    for (const auto& source : sources) {
      if (source.requires_grad()) {
        wanted.push_back(source);
      }
    }
    const auto found = torch::autograd::grad(
        {*output}, wanted, {gradients[0]}, std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
    torch::autograd::variable_list all;
    std::size_t next = 0;
    for (const auto& source : sources) {
      all.push_back(source.requires_grad() ? found[next++] : at::Tensor());
    }
    // the part itself has none
    all.emplace_back();
    return all;
  }
};

} // namespace

extern "C" {

// The state of LibTorch's generator on the device of `like`.
bool tweedie_generator_state(const at::Tensor* like, at::Tensor** out, char* error) {
  return tweedie::attempt(error, [&] {
    *out = new at::Tensor(state_of(generator(like->device())));
  });
}

// `output`, which was computed without a graph from `count` inputs, the first of them `activations`
// and the others leaves, as a function of them whose way back calls `again`. `drop` is called with
// the context in the end, whatever happens.
bool tweedie_recomputed(
    const at::Tensor* output,
    const at::Tensor* const* inputs,
    std::size_t count,
    std::size_t activations,
    const at::Tensor* state,
    void* context,
    Again again,
    void (*drop)(void*),
    at::Tensor** out,
    char* error) {
  auto part = c10::make_intrusive<Part>();
  part->output = *output;
  part->state = state ? *state : at::Tensor();
  part->activations = static_cast<std::int64_t>(activations);
  part->context = context;
  part->again = again;
  part->drop = drop;
  return tweedie::attempt(error, [&] {
    std::vector<at::Tensor> all;
    for (std::size_t i = 0; i < count; i++) {
      all.push_back(*inputs[i]);
    }
    *out = new at::Tensor(Recomputed::apply(at::TensorList(all), part));
  });
}

} // extern "C"
