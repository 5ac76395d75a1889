// Strings, numbers and the serial console (16550 at port 0x3f8).

#include <stdarg.h>

#include "guest.h"

#define COM1 0x3f8
#define COM1_LSR (COM1 + 5)
#define LSR_THRE 0x20
#define FIFO_BYTES 16

size_t strlen(const char *text) {
  size_t count = 0;
  while (text[count]) count++;
  return count;
}

void *memset(void *to, int byte, size_t count) {
  void *start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
  return start;
}

void *memcpy(void *to, const void *from, size_t count) {
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return start;
}

int memcmp(const void *a, const void *b, size_t count) {
  const uint8_t *left = a, *right = b;
  for (size_t i = 0; i < count; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

// Asks for room once per FIFO: each port access leaves the guest.
static void put(char byte) {
  static uint32_t room;
  if (room == 0) {
    while (!(in8(COM1_LSR) & LSR_THRE)) {
    }
    room = FIFO_BYTES;
  }
  room--;
  out8(COM1, (uint8_t)byte);
}

static void put_number(uint64_t value, uint32_t base) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  while (count) put(digits[--count]);
}

void print_hex(const uint8_t *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    put("0123456789abcdef"[bytes[i] >> 4]);
    put("0123456789abcdef"[bytes[i] & 15]);
  }
}

void print(const char *format, ...) {
  va_list values;
  va_start(values, format);
  for (; *format; format++) {
    if (*format == '\n') put('\r');
    if (*format != '%') {
      put(*format);
      continue;
    }
    format++;
    if (*format == 's') {
      for (const char *text = va_arg(values, const char *); *text; text++) put(*text);
    } else if (*format == 'u' || *format == 'x') {
      put_number(va_arg(values, uint64_t), *format == 'u' ? 10 : 16);
    } else {
      put(*format);
    }
  }
  va_end(values);
}
