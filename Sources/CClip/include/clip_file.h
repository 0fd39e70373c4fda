// Files for the library itself: not part of `clipc.h`, and not there on systems without files.

#ifndef CLIP_FILE_H
#define CLIP_FILE_H

#include "clipc.h"

/// Maps a regular file read-only; false with `errno` set where that fails. Of an empty file there
/// are 0 bytes, at null.
bool clip_file_map(const char *path, const void **bytes, size_t *byte_count);

/// Ends a mapping of `clip_file_map`; 0 bytes are allowed.
void clip_file_unmap(const void *bytes, size_t byte_count);

/// The system's words for an `errno`; never null.
const char *clip_file_error_message(int code);

/// The last error number of the calling thread.
int clip_file_error(void);

/// What ends the bytes of a model behind it.
typedef void clip_release_function(const void *bytes, size_t byte_count);

/// Has `clip_model_close` call `release` with the model's bytes, once the model is gone.
void clip_model_set_release(clip_model *model, clip_release_function *release);

#endif
