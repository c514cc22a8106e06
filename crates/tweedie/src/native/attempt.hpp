// How a function of C tells that it failed: it returns whether it did not, and what went wrong is
// copied to `error`, a buffer of ERROR bytes.

#pragma once

#include <cstring>
#include <string>

#include <c10/util/Exception.h>

namespace tweedie {

constexpr std::size_t ERROR = 4096;

// The first line of what went wrong.
inline void tell(char* error, const std::string& text) {
  const auto line = text.substr(0, text.find('\n'));
  std::strncpy(error, line.c_str(), ERROR - 1);
  error[ERROR - 1] = '\0';
}

template <typename F>
bool attempt(char* error, F&& work) {
  try {
    work();
    return true;
  } catch (const c10::Error& e) {
    tell(error, e.what_without_backtrace());
  } catch (const std::exception& e) {
    tell(error, e.what());
  } catch (...) {
    tell(error, "an exception of no known kind");
  }
  return false;
}

} // namespace tweedie
