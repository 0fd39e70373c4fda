// Runs a `.clipc` file, from C: an image and a text, or what the image shows.
//
//   clipc-c-example MODEL.clipc [PIXELS]
//
// PIXELS holds float32 `[channels, height, width]` as `clipc preprocess` makes them; without it a
// pattern is drawn. A model that knows classes by itself prints their probabilities for the image,
// one a line. Others print the embeddings of the image and of a text, the start token followed by the
// end token.

#include <clipc.h>
#include <stdio.h>
#include <stdlib.h>

static void require(bool condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "clipc-c-example: %s\n", what);
  exit(1);
}

static void require_ok(clip_status status) {
  require(status == CLIP_STATUS_OK, clip_status_message(status));
}

static float *allocate(size_t count) {
  float *memory = malloc(count * sizeof(float));
  require(memory != NULL, "no memory");
  return memory;
}

static void read_pixels(const char *path, float *pixels, size_t count) {
  FILE *file = fopen(path, "rb");
  require(file != NULL, "PIXELS cannot be read");
  const bool is_whole = fread(pixels, sizeof(float), count, file) == count && fgetc(file) == EOF;
  fclose(file);
  require(is_whole, "PIXELS has another size");
}

static void draw_pixels(float *pixels, size_t count) {
  for (size_t pixel = 0; pixel < count; pixel++) pixels[pixel] = (float)(pixel % 97) / 48 - 1;
}

static void print_embedding(const char *name, const float *embedding, size_t width) {
  printf("%s", name);
  for (size_t column = 0; column < width; column++) printf(" %.9g", (double)embedding[column]);
  printf("\n");
}

static void print_probabilities(const clip_model *model, const float *embedding) {
  const size_t count = clip_model_label_count(model);
  float *probabilities = allocate(count);
  require_ok(clip_classify(
      model, embedding, 1, clip_model_label_embeddings(model), count, probabilities));
  for (size_t index = 0; index < count; index++) {
    printf("%s %.9g\n", clip_model_label_name(model, index), (double)probabilities[index]);
  }
  free(probabilities);
}

int main(int argument_count, char **arguments) {
  require(argument_count == 2 || argument_count == 3, "usage: MODEL.clipc [PIXELS]");

  clip_model *model = NULL;
  clip_model_properties properties;
  require_ok(clip_model_open_file(arguments[1], &model));
  require_ok(clip_model_query(model, &properties));

  clip_interpreter *interpreter = NULL;
  require_ok(clip_interpreter_create(model, 2, 1, properties.context_length, &interpreter));
  float *embedding = allocate(properties.embedding_width);

  if (properties.has_image_tower) {
    const size_t pixel_count =
        properties.image_channel_count * properties.image_height * properties.image_width;
    float *pixels = allocate(pixel_count);
    if (argument_count == 3) {
      read_pixels(arguments[2], pixels, pixel_count);
    } else {
      draw_pixels(pixels, pixel_count);
    }
    require_ok(clip_encode_images(interpreter, pixels, 1, embedding));
    if (clip_model_label_count(model) > 0) {
      print_probabilities(model, embedding);
    } else {
      print_embedding("image", embedding, properties.embedding_width);
    }
    free(pixels);
  }
  if (properties.has_text_tower && clip_model_label_count(model) == 0) {
    const int32_t tokens[2] = {properties.start_token, properties.end_token};
    const size_t token_count = properties.context_length < 2 ? properties.context_length : 2;
    require_ok(clip_encode_texts(interpreter, tokens, 1, token_count, embedding));
    print_embedding("text", embedding, properties.embedding_width);
  }

  free(embedding);
  clip_interpreter_destroy(interpreter);
  clip_model_close(model);
  return 0;
}
