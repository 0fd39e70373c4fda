// Memory, numbers and comparisons of the checks.

#define _GNU_SOURCE
#include "check.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char case_name[160];

typedef struct region {
  void *start;
  size_t byte_count;
} region;

static region regions[64];
static size_t region_count;

static void fail(const char *message) {
  fprintf(stderr, "%s: %s\n", case_name, message);
  exit(1);
}

static void on_fault(int signal_number) {
  static const char message[] = ": touches memory that is not its own\n";
  (void)signal_number;
  if (write(2, case_name, strlen(case_name)) < 0 || write(2, message, sizeof(message) - 1) < 0) {
    _exit(2);
  }
  _exit(1);
}

void begin_case(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(case_name, sizeof(case_name), format, arguments);
  va_end(arguments);
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
}

void end_case(void) {
  while (region_count > 0) {
    region_count -= 1;
    munmap(regions[region_count].start, regions[region_count].byte_count);
  }
}

void *memory(size_t byte_count) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t whole = (byte_count + page - 1) / page * page;
  uint8_t *start =
      mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED || region_count == COUNT_OF(regions)) fail("out of memory");
  if (mprotect(start + whole, page, PROT_NONE) != 0) fail("no protected page");
  regions[region_count++] = (region){start, whole + page};
  uint8_t *result = start + whole - byte_count;
  memset(result, 0x55, byte_count);
  return result;
}

void *memory_of(const void *bytes, size_t byte_count) {
  void *result = memory(byte_count);
  if (byte_count > 0) memcpy(result, bytes, byte_count);
  return result;
}

// SplitMix64.
uint64_t next_random(check *c) {
  c->random += 0x9e3779b97f4a7c15u;
  uint64_t z = c->random;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

float random_float(check *c, float lowest, float highest) {
  const double unit = (double)(next_random(c) >> 40) * 0x1p-24;
  return (float)((double)lowest + unit * ((double)highest - (double)lowest));
}

float *random_floats(check *c, size_t count, float lowest, float highest) {
  float *result = memory(count * sizeof(float));
  for (size_t i = 0; i < count; i += 1) result[i] = random_float(c, lowest, highest);
  return result;
}

uint8_t *random_bytes(check *c, size_t count) {
  uint8_t *result = memory(count);
  for (size_t i = 0; i < count; i += 1) result[i] = (uint8_t)(next_random(c) >> 56);
  return result;
}

int8_t *random_codes(check *c, size_t count, size_t bits) {
  const int half = 1 << (bits - 1), lowest = bits == 8 ? -127 : -half;
  int8_t *result = memory(count);
  for (size_t i = 0; i < count; i += 1) {
    const int code = (int)(next_random(c) >> 40 & (uint64_t)(2 * half - 1)) - half;
    result[i] = (int8_t)(code < lowest ? lowest : code);
  }
  return result;
}

static void keep(check *c, const void *result, size_t byte_count) {
  while (c->kept_count + byte_count > c->kept_capacity) {
    c->kept_capacity = 2 * c->kept_capacity + 65536;
    c->kept = realloc(c->kept, c->kept_capacity);
    if (!c->kept) fail("out of memory");
  }
  memcpy(c->kept + c->kept_count, result, byte_count);
  c->kept_count += byte_count;
}

// What the reference wrote in place of `byte_count` bytes.
static const uint8_t *wanted_bytes(check *c, size_t byte_count) {
  if (c->position + byte_count > c->kept_count) fail("has more results than the reference");
  c->position += byte_count;
  return c->kept + c->position - byte_count;
}

static void count_comparison(check *c, bool is_right) {
  c->comparison_count += 1;
  if (is_right) return;
  c->difference_count += 1;
  if (c->difference_count <= 5) fprintf(stderr, "%s: %s differs\n", c->set, case_name);
}

void same(check *c, const void *result, size_t byte_count) {
  if (byte_count == 0) return;
  if (c->is_reference) {
    keep(c, result, byte_count);
    return;
  }
  count_comparison(c, memcmp(result, wanted_bytes(c, byte_count), byte_count) == 0);
}

void close_to(check *c, const float *result, const double *tolerance, size_t count) {
  if (count == 0) return;
  if (c->is_reference) {
    keep(c, result, count * sizeof(float));
    return;
  }
  const uint8_t *bytes = wanted_bytes(c, count * sizeof(float));
  bool is_right = true;
  for (size_t i = 0; i < count; i += 1) {
    float wanted;
    memcpy(&wanted, bytes + i * sizeof(float), sizeof(float));
    const bool has_same_bits = memcmp(&wanted, result + i, sizeof(float)) == 0;
    const double distance = __builtin_fabs((double)result[i] - (double)wanted);
    if (!has_same_bits && !(distance <= tolerance[i] && tolerance[i] > 0)) is_right = false;
  }
  count_comparison(c, is_right);
}

void hold(check *c, bool claim) { count_comparison(c, claim); }

int8_t *code_panels(const int8_t *codes, size_t outputs, size_t inputs) {
  const size_t groups = (inputs + 3) / 4, count = panel_count(outputs) * groups * 64;
  int8_t *panels = memory(count);
  memset(panels, 0, count);
  for (size_t n = 0; n < outputs; n += 1) {
    for (size_t k = 0; k < inputs; k += 1) {
      panels[(n / 16 * groups + k / 4) * 64 + n % 16 * 4 + k % 4] = codes[n * inputs + k];
    }
  }
  return panels;
}

float *float_panels(const float *weights, size_t outputs, size_t inputs) {
  const size_t count = panel_count(outputs) * inputs * 16;
  float *panels = memory(count * sizeof(float));
  memset(panels, 0, count * sizeof(float));
  for (size_t n = 0; n < outputs; n += 1) {
    for (size_t k = 0; k < inputs; k += 1) {
      panels[(n / 16 * inputs + k) * 16 + n % 16] = weights[n * inputs + k];
    }
  }
  return panels;
}
