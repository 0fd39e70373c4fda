// Products with weights of few bits, in whole rows and in groups, and rows of codes.

#include "check.h"

#include <string.h>

// 64 codes as one block, by the definition in kernels.h.
static void pack_block(const int8_t *codes, size_t bits, uint8_t *to) {
  unsigned shift = 0;
  for (size_t width = 4; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const size_t count = 8 * width;
    for (size_t i = 0; i < count; i += 1, to += 1) {
      *to = 0;
      for (size_t place = 0; place < 8 / width; place += 1) {
        const unsigned part = (uint8_t)codes[i + place * count] >> shift & ((1u << width) - 1);
        *to |= (uint8_t)(part << (place * width));
      }
    }
    shift += (unsigned)width;
  }
}

// Whole blocks of codes; of 8 bits, as they are.
static uint8_t *blocks_of(const int8_t *codes, size_t count, size_t bits) {
  uint8_t *result = memory(count / 8 * bits);
  if (bits == 8) memcpy(result, codes, count);
  for (size_t i = 0; bits < 8 && i < count; i += 64) {
    pack_block(codes + i, bits, result + i / 8 * bits);
  }
  return result;
}

static size_t float_size(clip_float_type type) { return type == CLIP_FLOAT32 ? 4 : 2; }

// Numbers of few digits as they are stored.
static void *stored(const float *values, size_t count, clip_float_type type) {
  uint8_t *result = memory(count * float_size(type));
  for (size_t i = 0; i < count; i += 1) {
    uint32_t bits;
    memcpy(&bits, values + i, 4);
    uint16_t half = (uint16_t)(bits >> 16);
    if (type == CLIP_FLOAT16) {
      // Normal numbers and zero only.
      const uint32_t exponent = bits >> 23 & 255;
      half = (uint16_t)(bits >> 16 & 0x8000);
      if (exponent != 0) half |= (uint16_t)((exponent - 112) << 10 | (bits >> 13 & 0x3ff));
    }
    if (type == CLIP_FLOAT32) {
      memcpy(result + 4 * i, &bits, 4);
    } else {
      memcpy(result + 2 * i, &half, 2);
    }
  }
  return result;
}

static const clip_float_type types[] = {CLIP_FLOAT32, CLIP_FLOAT16, CLIP_BFLOAT16};

typedef struct packed_case {
  size_t rows, outputs, inputs, group_size, bits, groups, stride;
  int8_t *codes;
  float *scales;
  clip_packed_weights weights;
  clip_epilogue epilogue;
} packed_case;

static packed_case case_of(
    check *c, size_t rows, size_t outputs, size_t inputs, size_t group_size, size_t bits,
    clip_float_type type) {
  packed_case p = {rows, outputs, inputs, group_size, bits, .groups = 1};
  if (group_size != 0) p.groups = (inputs + group_size - 1) / group_size;
  p.stride = (inputs + 3) / 4 * 4 + 4;
  p.codes = random_codes(c, outputs * inputs, bits);
  p.scales = memory(outputs * p.groups * sizeof(float));
  for (size_t i = 0; i < outputs * p.groups; i += 1) {
    p.scales[i] = (float)((int)(next_random(c) >> 32 & 255) - 127) / 4096;
  }
  p.weights.panels = blocks_of(
      code_panels(p.codes, outputs, inputs), panel_count(outputs) * ((inputs + 3) / 4) * 64, bits);
  p.weights.bits = bits;
  p.weights.group_size = group_size;
  p.weights.scales = p.scales;
  if (group_size != 0) {
    p.weights.scale_type = type;
    p.weights.scales = stored(
        float_panels(p.scales, outputs, p.groups), panel_count(outputs) * p.groups * 16, type);
  }
  p.epilogue.bias = random_floats(c, outputs, -1, 1);
  p.epilogue.output.f32 = memory(rows * (outputs + 1) * sizeof(float));
  p.epilogue.output.f32_stride = outputs + 1;
  return p;
}

// The result in the roundings that kernels.h promises.
static float wanted_integer(
    const packed_case *p, const clip_qu8_pw_gemm_arguments *t, size_t m, size_t n) {
  volatile float total = 0;
  for (size_t group = 0; group < p->groups; group += 1) {
    const size_t first = group * p->group_size;
    const bool is_last = p->group_size == 0 || first + p->group_size > p->inputs;
    const size_t end = is_last ? p->inputs : first + p->group_size;
    int32_t sum = 0;
    for (size_t k = first; k < end; k += 1) {
      sum += (t->activations[m * p->stride + k] - t->zero_point) * p->codes[n * p->inputs + k];
    }
    volatile float term = (float)sum * p->scales[n * p->groups + group];
    total = total + term;
  }
  total = total * t->scale;
  if (t->row_scale) total = total * t->row_scale[3 * m];
  return total + p->epilogue.bias[n];
}

static void packed_integers(check *c, const packed_case *p, size_t number) {
  const size_t width = p->outputs + 1;
  int32_t *correction = memory(p->outputs * sizeof(int32_t));
  clip_qu8_pw_gemm_arguments t = {
      .activations = random_bytes(c, p->rows * p->stride), .activations_stride = p->stride,
      .weights = p->weights, .output_count = p->outputs, .input_count = p->inputs,
      .correction = p->group_size == 0 ? correction : NULL, .zero_point = 77,
      .scale = p->group_size == 0 ? 1 : 0.031f, .row_scale_stride = 3,
      .row_scale = number % 2 == 0 ? random_floats(c, 3 * p->rows, -1, 1) : NULL,
      .epilogue = p->epilogue};
  for (size_t n = 0; n < p->outputs; n += 1) {
    correction[n] = 0;
    for (size_t k = 0; k < p->inputs; k += 1) {
      correction[n] += t.zero_point * p->codes[n * p->inputs + k];
    }
  }
  void *scratch = memory(clip_pw_scratch_byte_count(p->inputs, p->group_size, false));
  for (size_t part = 0; part < 4; part += 1) {
    c->kernels->qu8_pw_gemm(
        &t, clip_range_part(p->rows, 2, part / 2),
        clip_range_part(panel_count(p->outputs), 2, part % 2), scratch);
  }
  same(c, p->epilogue.output.f32, p->rows * width * sizeof(float));
  if (!c->is_reference) return;
  bool is_right = true;
  for (size_t m = 0; m < p->rows; m += 1) {
    for (size_t n = 0; n < p->outputs; n += 1) {
      is_right = is_right && p->epilogue.output.f32[m * width + n] == wanted_integer(p, &t, m, n);
    }
  }
  hold(c, is_right);
}

// Of floats times `weights`, any order of additions.
static void close_floats(
    check *c, const packed_case *p, const float *activations, const float *weights) {
  const size_t width = p->outputs + 1;
  double *tolerance = memory(p->rows * width * sizeof(double));
  for (size_t m = 0; m < p->rows; m += 1) {
    for (size_t n = 0; n < p->outputs; n += 1) {
      double magnitude = __builtin_fabs((double)p->epilogue.output.f32[m * width + n]) +
                         __builtin_fabs((double)p->epilogue.bias[n]);
      for (size_t k = 0; k < p->inputs; k += 1) {
        magnitude += __builtin_fabs(
            (double)activations[m * p->stride + k] * (double)weights[n * p->inputs + k]);
      }
      tolerance[m * width + n] = 2 * (double)(p->inputs + 4) * UNIT * magnitude + 1e-37;
    }
    tolerance[m * width + p->outputs] = 0;
  }
  close_to(c, p->epilogue.output.f32, tolerance, p->rows * width);
}

static void run_floats(check *c, const packed_case *p, const float *activations) {
  const clip_f32_pw_gemm_arguments t = {
      .activations = activations, .activations_stride = p->stride, .weights = p->weights,
      .output_count = p->outputs, .input_count = p->inputs, .epilogue = p->epilogue};
  void *scratch = memory(clip_pw_scratch_byte_count(p->inputs, p->group_size, true));
  c->kernels->f32_pw_gemm(&t, all(p->rows), all(panel_count(p->outputs)), scratch);
}

static void packed_floats(check *c, packed_case p) {
  const float *activations = random_floats(c, p.rows * p.stride, -1, 1);
  float *weights = memory(p.outputs * p.inputs * sizeof(float));
  for (size_t n = 0; n < p.outputs; n += 1) {
    for (size_t k = 0; k < p.inputs; k += 1) {
      const size_t group = p.group_size == 0 ? 0 : k / p.group_size;
      weights[n * p.inputs + k] =
          (float)p.codes[n * p.inputs + k] * p.scales[n * p.groups + group];
    }
  }
  run_floats(c, &p, activations);
  close_floats(c, &p, activations, weights);
}

// Weights that are floats, stored in each type.
static void short_floats(check *c, packed_case p, clip_float_type type) {
  const float *activations = random_floats(c, p.rows * p.stride, -1, 1);
  float *weights = memory(p.outputs * p.inputs * sizeof(float));
  for (size_t i = 0; i < p.outputs * p.inputs; i += 1) weights[i] = (float)p.codes[i] / 256;
  p.weights = (clip_packed_weights){
      .panels = stored(
          float_panels(weights, p.outputs, p.inputs), panel_count(p.outputs) * 16 * p.inputs, type),
      .type = type};
  p.group_size = 0;
  run_floats(c, &p, activations);
  close_floats(c, &p, activations, weights);
}

void check_packed_products(check *c) {
  // Rows, channels, columns, and columns of a group.
  static const size_t shapes[][4] = {
      {1, 1, 1, 0}, {1, 16, 64, 64}, {3, 17, 5, 4}, {5, 33, 70, 32}, {7, 64, 100, 0},
      {13, 70, 65, 8}, {29, 50, 132, 64}, {6, 16, 256, 128}, {12, 48, 96, 96}, {2, 5, 31, 16},
      {4, 18, 60, 20}, {11, 33, 37, 12},
  };
  for (size_t bits = 2; bits <= 8; bits += 1) {
    for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
      const size_t *s = shapes[i];
      const clip_float_type type = types[(i + bits) % 3];
      begin_case(
          "packed product %zu x %zu x %zu of %zu bits, groups of %zu", s[0], s[1], s[2], bits,
          s[3]);
      const packed_case p = case_of(c, s[0], s[1], s[2], s[3], bits, type);
      packed_integers(c, &p, i + bits);
      packed_floats(c, p);
      if (bits == 8) short_floats(c, p, type);
      end_case();
    }
  }
}

static void row_of_codes(check *c, size_t bits, size_t count, size_t group_size) {
  const size_t padded = bits == 8 ? count : (count + 63) / 64 * 64;
  const size_t groups = group_size == 0 ? 1 : (count + group_size - 1) / group_size;
  const int8_t *codes = random_codes(c, padded, bits);
  float *scales = memory(groups * sizeof(float));
  for (size_t i = 0; i < groups; i += 1) {
    scales[i] = (float)((int)(next_random(c) >> 32 & 255) - 127) / 1024;
  }
  for (size_t i = 0; i < COUNT_OF(types); i += 1) {
    begin_case("row of %zu codes of %zu bits, groups of %zu", count, bits, group_size);
    float *output = memory((count + 1) * sizeof(float));
    const clip_packed_row row = {
        .codes = bits == 8 ? memory_of(codes, count) : blocks_of(codes, padded, bits),
        .bits = bits, .count = count, .group_size = group_size,
        .scales = stored(scales, groups, types[i]), .scale_type = types[i]};
    c->kernels->qp_dequantize(&row, output);
    same(c, output, (count + 1) * sizeof(float));
  }
  end_case();
}

// Every finite number of both short types.
static void widened_floats(check *c) {
  for (size_t type = CLIP_FLOAT16; type <= CLIP_BFLOAT16; type += 1) {
    const unsigned shift = type == CLIP_FLOAT16 ? 10 : 7, most = type == CLIP_FLOAT16 ? 31 : 255;
    static uint16_t words[65536];
    size_t count = 0;
    for (unsigned word = 0; word < 65536; word += 1) {
      if ((word >> shift & most) != most) words[count++] = (uint16_t)word;
    }
    begin_case("short floats of type %zu", type);
    count -= 1;
    float *output = memory((count + 1) * sizeof(float));
    c->kernels->f32_widen(memory_of(words, 2 * count), (clip_float_type)type, count, output);
    same(c, output, (count + 1) * sizeof(float));
    end_case();
  }
}

void check_packed_rows(check *c) {
  static const size_t shapes[][2] = {
      {1, 0}, {64, 0}, {100, 4}, {130, 32}, {512, 64}, {70, 64}, {96, 96}, {67, 12},
  };
  for (size_t bits = 2; bits <= 8; bits += 1) {
    for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
      row_of_codes(c, bits, shapes[i][0], shapes[i][1]);
    }
  }
  widened_floats(c);
}
