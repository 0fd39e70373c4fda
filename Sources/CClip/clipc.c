// `clipc.h` is implemented in ClipRuntime, but for what needs a system with files.
#include "clipc.h"

#if __STDC_HOSTED__

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clip_file.h"

bool clip_file_map(const char *path, const void **bytes, size_t *byte_count) {
  // Without O_NONBLOCK a pipe would be waited for.
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return false;
  struct stat facts;
  void *mapped = MAP_FAILED;
  int reason = 0;
  if (fstat(file, &facts) != 0) {
    reason = errno;
  } else if (!S_ISREG(facts.st_mode) || facts.st_size < 0 ||
             (unsigned long long)facts.st_size > SIZE_MAX) {
    reason = S_ISDIR(facts.st_mode) ? EISDIR : EINVAL;
  } else if (facts.st_size == 0) {
    mapped = NULL;
  } else {
    mapped = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED) reason = errno;
  }
  close(file);
  if (mapped == MAP_FAILED) {
    errno = reason;
    return false;
  }
  *bytes = mapped;
  *byte_count = (size_t)facts.st_size;
  return true;
}

void clip_file_unmap(const void *bytes, size_t byte_count) {
  if (byte_count > 0) munmap((void *)bytes, byte_count);
}

const char *clip_file_error_message(int code) {
  const char *message = strerror(code);
  return message != NULL ? message : "unknown error";
}

int clip_file_error(void) { return errno; }

clip_status clip_model_open_file(const char *path, clip_model **model) {
  if (path == NULL || model == NULL) return CLIP_STATUS_INVALID_ARGUMENT;
  const void *bytes = NULL;
  size_t byte_count = 0;
  if (!clip_file_map(path, &bytes, &byte_count)) return CLIP_STATUS_UNREADABLE_FILE;
  if (byte_count == 0) return CLIP_STATUS_MALFORMED_MODEL;
  const clip_status status = clip_model_open(bytes, byte_count, model);
  if (status == CLIP_STATUS_OK) {
    clip_model_set_release(*model, clip_file_unmap);
  } else {
    clip_file_unmap(bytes, byte_count);
  }
  return status;
}

#endif
