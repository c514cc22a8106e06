// LibTorch's own engine for several processes, c10d, behind functions of C: a store of keys and
// values (TCPStore), and the collectives of Gloo on the CPU and of NCCL on CUDA devices.

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <ATen/ATen.h>

#include "attempt.hpp"

// LibTorch has Gloo inside and comes without its headers, of which that of the process group takes
// no more than these declarations: classes that it points to, and the store that it wraps its own in.
namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds);
};
namespace transport {
class Device;
class UnboundBuffer;
} // namespace transport
namespace rendezvous {
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&) = 0;
};
} // namespace rendezvous
} // namespace gloo

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

using tweedie::attempt;
using Milliseconds = std::chrono::milliseconds;

// NCCL's process group and its options as libtorch_cuda constructs them. Their headers want those of
// CUDA, and LibTorch for the CPU has neither, so that the constructors are looked up by their names
// once the library is open. In LibTorch 2.11 the objects take 1112 and 248 bytes; they have more.
constexpr char NCCL_OPTIONS[] = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr char NCCL_GROUP[] =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_"
    "default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";
constexpr std::size_t ROOM = 16384;

using StorePointer = c10::intrusive_ptr<c10d::Store>;
// what the options derive from; a pointer to them is handed over by reference, whatever its type
using OptionsPointer = c10::intrusive_ptr<c10d::Backend::Options>;

void* symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  if (!found) {
    if (void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD)) {
      found = dlsym(library, name);
    }
  }
  TORCH_CHECK(found, "the CUDA library of LibTorch has no NCCL");
  return found;
}

// An object in memory that is freed if `construct` fails.
template <typename T, typename F>
c10::intrusive_ptr<T> constructed(F&& construct) {
  void* memory = ::operator new(ROOM);
  std::memset(memory, 0, ROOM);
  try {
    construct(memory);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  return c10::intrusive_ptr<T>::unsafe_steal_from_new(static_cast<T*>(memory));
}

using BackendPointer = c10::intrusive_ptr<c10d::Backend>;

BackendPointer gloo_of(const StorePointer& store, int rank, int size, Milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create_default(timeout);
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, std::move(options));
}

BackendPointer nccl_of(const StorePointer& store, int rank, int size, Milliseconds timeout) {
  using NewOptions = void (*)(void*, bool);
  using NewGroup = void (*)(void*, StorePointer, int, int, OptionsPointer);
  auto new_options = reinterpret_cast<NewOptions>(symbol(NCCL_OPTIONS));
  auto new_group = reinterpret_cast<NewGroup>(symbol(NCCL_GROUP));
  auto options =
      constructed<c10d::Backend::Options>([&](void* memory) { new_options(memory, false); });
  options->timeout = timeout;
  StorePointer own = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
  return constructed<c10d::Backend>(
      [&](void* memory) { new_group(memory, own, rank, size, options); });
}

} // namespace

struct TweedieStore {
  c10::intrusive_ptr<c10d::Store> store;
};

struct TweedieGroup {
  c10::intrusive_ptr<c10d::Backend> backend;
};

extern "C" {

// The store at `host` and `port`, which this process serves if `serves`. Keys begin with `prefix`.
bool tweedie_store_open(
    const char* host,
    std::uint16_t port,
    bool serves,
    std::int64_t processes,
    std::int64_t timeout,
    const char* prefix,
    TweedieStore** out,
    char* error) {
  return attempt(error, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves;
    options.numWorkers = static_cast<std::size_t>(processes);
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout);
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(host, options);
    store = c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store));
    *out = new TweedieStore{std::move(store)};
  });
}

void tweedie_store_free(TweedieStore* store) {
  delete store;
}

bool tweedie_store_set(
    TweedieStore* store,
    const char* key,
    const std::uint8_t* bytes,
    std::size_t count,
    char* error) {
  return attempt(error, [&] {
    store->store->set(key, std::vector<std::uint8_t>(bytes, bytes + count));
  });
}

// Whether there is a value at `key`, and that, handed to `take` with `context`.
bool tweedie_store_get(
    TweedieStore* store,
    const char* key,
    void (*take)(void* context, const std::uint8_t* bytes, std::size_t count),
    void* context,
    char* error) {
  return attempt(error, [&] {
    if (store->store->check({key})) {
      const auto value = store->store->get(key);
      take(context, value.data(), value.size());
    }
  });
}

// The processes of `store` as a group that computes on the CPU or on CUDA devices.
bool tweedie_group_open(
    TweedieStore* store,
    bool on_devices,
    int rank,
    int size,
    std::int64_t timeout,
    TweedieGroup** out,
    char* error) {
  return attempt(error, [&] {
    const auto open = on_devices ? nccl_of : gloo_of;
    *out = new TweedieGroup{open(store->store, rank, size, Milliseconds(timeout))};
  });
}

void tweedie_group_free(TweedieGroup* group) {
  delete group;
}

// Sums `tensor` over the ranks, in place.
bool tweedie_group_sum(TweedieGroup* group, at::Tensor* tensor, char* error) {
  return attempt(error, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    group->backend->allreduce(tensors)->wait();
  });
}

// Overwrites `tensor` by that of rank `from`.
bool tweedie_group_broadcast(TweedieGroup* group, at::Tensor* tensor, int from, char* error) {
  return attempt(error, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    group->backend->broadcast(tensors, options)->wait();
  });
}

// The tensors `own` of all ranks, of one shape, one after the other in `all`.
bool tweedie_group_gather(TweedieGroup* group, at::Tensor* all, at::Tensor* own, char* error) {
  return attempt(error, [&] { group->backend->_allgather_base(*all, *own)->wait(); });
}

} // extern "C"
