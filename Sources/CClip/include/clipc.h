// clipc runtime: embeddings of images and texts from a `.clipc` file, and what images show.
//
//   clip_model *model;
//   clip_interpreter *interpreter;
//   clip_model_open_file("model.clipc", &model);
//   clip_interpreter_create(model, 2, 1, 77, &interpreter);
//   clip_encode_images(interpreter, pixels, 1, embedding);
//   clip_classify(
//       model, embedding, 1, clip_model_label_embeddings(model), clip_model_label_count(model),
//       probabilities);
//
// The library prints nothing, has no state of its own and allocates only in the functions that open,
// create and verify. Threads may share a model, and run an interpreter each over it at the same
// time; an interpreter belongs to one thread at a time, whichever that is. Bytes given to
// `clip_model_open` are borrowed: they lie at a multiple of 64, as `mmap` puts them, and stay until
// everything made from them is gone. Results do not depend on the number of threads.

#ifndef CLIPC_H
#define CLIPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A validated runtime file.
typedef struct clip_model clip_model;

/// What runs a model: threads, memory and kernels.
typedef struct clip_interpreter clip_interpreter;

/// What became of a call; values never change their meaning.
typedef enum clip_status {
  CLIP_STATUS_OK = 0,
  /// A null pointer or a number out of its range.
  CLIP_STATUS_INVALID_ARGUMENT = 1,
  /// The bytes are no runtime file, or a damaged one.
  CLIP_STATUS_MALFORMED_MODEL = 2,
  /// A runtime file of a version or with a part that this library does not know.
  CLIP_STATUS_UNSUPPORTED_MODEL = 3,
  /// The memory that was asked for is not there.
  CLIP_STATUS_OUT_OF_MEMORY = 4,
  /// The model, or the interpreter's limits, leave out the tower that was asked for.
  CLIP_STATUS_NO_SUCH_TOWER = 5,
  /// A token id is negative or not below the vocabulary's size.
  CLIP_STATUS_TOKEN_OUT_OF_RANGE = 6,
  /// A text is longer than the interpreter's limit.
  CLIP_STATUS_TEXT_TOO_LONG = 7,
  /// The file cannot be opened, is no regular file, or cannot be mapped; `errno` tells why.
  CLIP_STATUS_UNREADABLE_FILE = 8,
} clip_status;

/// Facts of a model that a caller needs.
typedef struct clip_model_properties {
  /// Floats of an embedding.
  size_t embedding_width;
  /// Whether images can be encoded; if not, the three numbers below are 0.
  bool has_image_tower;
  size_t image_channel_count;
  size_t image_height;
  size_t image_width;
  /// Whether texts can be encoded; if not, the four numbers below are 0.
  bool has_text_tower;
  /// The most tokens of a text, start and end token included.
  size_t context_length;
  size_t vocabulary_count;
  int32_t start_token;
  int32_t end_token;
  /// Multiplies cosines to give logits.
  float logit_scale;
} clip_model_properties;

/// What an interpreter is made of.
typedef struct clip_interpreter_properties {
  /// Bytes of the memory that holds everything a call computes.
  size_t arena_byte_count;
  /// Threads that work on a call, the caller's being one of them.
  size_t thread_count;
  /// The most images or texts that run at a time.
  size_t batch_limit;
  /// The most tokens of a text.
  size_t token_limit;
  /// Name of the kernels in use, for instance `avx512vnni`; static.
  const char *kernel_set;
} clip_interpreter_properties;

/// Version of the library, such as `0.1.0`; static.
const char *clip_version(void);

/// The newest version of runtime files that the library knows: the major version in the upper 16
/// bits, the minor one in the lower. Files of another major version are refused.
uint32_t clip_format_version(void);

// MARK: Models

/// Validates a runtime file in memory.
///
/// The bytes stay the caller's and must outlive the model unchanged. Hostile bytes do no harm.
clip_status clip_model_open(const void *bytes, size_t byte_count, clip_model **model);

/// Maps the runtime file at `path`, read-only, and validates it.
///
/// Processes that open the same file share its pages. It must not change while it is open. Not
/// there on systems without files.
clip_status clip_model_open_file(const char *path, clip_model **model);

/// Holds every byte of a runtime file in memory against the format, as `clipc verify` does.
///
/// What is wrong, or nothing, is written to `message` as a sentence that ends with a zero byte, cut
/// to `message_byte_count` bytes; null with 0 leaves it out. A library built without the Swift
/// standard library says what kind of fault it is, another one where it lies. Opening does less: it
/// does not look at the weights.
clip_status clip_model_verify(
    const void *bytes, size_t byte_count, char *message, size_t message_byte_count);

/// Ends a model; its interpreters must be gone. Unmaps what `clip_model_open_file` mapped. Null is
/// allowed.
void clip_model_close(clip_model *model);

/// Tells the facts of a model.
clip_status clip_model_query(const clip_model *model, clip_model_properties *properties);

// MARK: Labels

/// The classes that the file knows by itself, 0 where it knows none.
size_t clip_model_label_count(const clip_model *model);

/// The name of a class, UTF-8 in the file; null without such a class. It may hold control
/// characters.
const char *clip_model_label_name(const clip_model *model, size_t index);

/// The embeddings of the classes, `[label count, embedding_width]` in the file, each row of norm 1;
/// null where there are none.
const float *clip_model_label_embeddings(const clip_model *model);

// MARK: Interpreters

/// Makes an interpreter.
///
/// `thread_count` threads work on every call, the caller's being one of them. Memory is allocated
/// here, once, for `batch_limit` images or texts at a time (larger calls run in pieces) and texts of
/// `token_limit` tokens (more than the context length counts as that; 0 leaves out texts).
clip_status clip_interpreter_create(
    const clip_model *model, size_t thread_count, size_t batch_limit, size_t token_limit,
    clip_interpreter **interpreter);

/// Ends an interpreter. Null is allowed.
void clip_interpreter_destroy(clip_interpreter *interpreter);

/// Tells what an interpreter is made of.
clip_status clip_interpreter_query(
    const clip_interpreter *interpreter, clip_interpreter_properties *properties);

/// Embeds preprocessed images.
///
/// `pixels` is `[count, channels, height, width]`; `embeddings` receives `[count, embedding_width]`,
/// each row of Euclidean norm 1.
clip_status clip_encode_images(
    clip_interpreter *interpreter, const float *pixels, size_t count, float *embeddings);

/// Embeds texts.
///
/// `tokens` is `[count, token_count]`, each row from start to end token and padded with anything
/// in the vocabulary behind that; `embeddings` as for images.
clip_status clip_encode_texts(
    clip_interpreter *interpreter, const int32_t *tokens, size_t count, size_t token_count,
    float *embeddings);

/// Probabilities of classes, for each image on its own.
///
/// `images` is `[image_count, embedding_width]` and `classes` `[class_count, embedding_width]`, such
/// as the labels of the file or embeddings of texts; rows need not have the norm 1. `probabilities`
/// receives `[image_count, class_count]`: the softmax over classes of the model's logit scale times
/// the cosine. It overlaps neither input. Allocates nothing; any number of threads may call it.
clip_status clip_classify(
    const clip_model *model, const float *images, size_t image_count, const float *classes,
    size_t class_count, float *probabilities);

/// A sentence about a status; static, never null.
const char *clip_status_message(clip_status status);

#ifdef __cplusplus
}
#endif

#endif
