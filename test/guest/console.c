// A polling virtio-console driver (virtio v1.2 §5.3): sends bytes, receives bytes, and then says
// everything back until it hears a q. What it finds it says on the serial port.
//
//   send=BYTES     transmits so many bytes of the pattern
//   expect=BYTES   receives so many, and looks whether they are the pattern
//   echo           says back what it hears, and tells each new size of the terminal there
//   exit=poweroff|debug|reset|triplefault|exception|hang

#include "guest.h"

#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_CONSOLE_F_SIZE 1
#define CONFIG 0x100  // cols │ rows, 16 bits each
#define DEPTH 64
#define BYTES 4096
#define SIZE_LOOK_NS 20000000ull

static struct device device;
static struct queue receiveq, transmitq;
static uint8_t *buffers[DEPTH];
static uint8_t *replies[DEPTH];
static uint32_t failures;

/** Test sources have the same: test/support/console.ts. */
static uint8_t pattern(uint64_t i) {
  return (uint8_t)(i * 131 + (i >> 8) * 7 + (i >> 16));
}

static void describe(struct queue *queue, uint32_t head, void *at, uint32_t bytes, uint16_t flags) {
  queue->desc[head] = (struct virtq_desc){.addr = (uint64_t)at, .len = bytes, .flags = flags};
  queue_offer(queue, (uint16_t)head);
}

static void send(uint64_t total) {
  uint64_t offered = 0, start = now_ns();
  uint32_t underway = 0, head, bytes;
  uint32_t slots[DEPTH], count = 0;
  while (count < DEPTH) {
    slots[count] = count;
    count++;
  }
  while (offered < total || underway) {
    while (offered < total && count) {
      head = slots[--count];
      bytes = total - offered < BYTES ? (uint32_t)(total - offered) : BYTES;
      for (uint32_t i = 0; i < bytes; i++) buffers[head][i] = pattern(offered + i);
      describe(&transmitq, head, buffers[head], bytes, 0);
      offered += bytes;
      underway++;
    }
    queue_kick(&transmitq);
    while (queue_take(&transmitq, &head, &bytes)) {
      slots[count++] = head;
      underway--;
    }
  }
  print("console: sent %u bytes in %u ns\n", total, now_ns() - start);
}

/** Takes one buffer that was received into, or none. */
static bool take(uint32_t *head, uint32_t *bytes) {
  queue_kick(&receiveq);
  return queue_take(&receiveq, head, bytes);
}

static void give_back(uint32_t head) {
  describe(&receiveq, head, replies[head], BYTES, VIRTQ_DESC_F_WRITE);
}

static void expect(uint64_t total) {
  uint64_t got = 0, wrong = 0, start = now_ns();
  while (got < total) {
    uint32_t head, bytes;
    if (!take(&head, &bytes)) continue;
    for (uint32_t i = 0; i < bytes; i++) wrong += replies[head][i] != pattern(got + i);
    got += bytes;
    give_back(head);
  }
  if (wrong || got != total) failures++;
  print("console: received %u bytes, %u wrong, in %u ns\n", got, wrong, now_ns() - start);
}

static void say(const void *text, uint32_t length) {
  uint32_t head, bytes;
  memcpy(buffers[0], text, length);
  describe(&transmitq, 0, buffers[0], length, 0);
  queue_kick(&transmitq);
  while (!queue_take(&transmitq, &head, &bytes)) {
  }
}

static char *put_number(char *to, uint32_t number) {
  if (number >= 10) to = put_number(to, number / 10);
  *to = (char)('0' + number % 10);
  return to + 1;
}

static void tell_size(uint32_t size) {
  char text[64] = "size ";
  char *end = put_number(text + 5, size >> 16);
  *end++ = ' ';
  end = put_number(end, size & 0xffff);
  *end++ = '\r';
  *end++ = '\n';
  say(text, (uint32_t)(end - text));
}

static void echo(void) {
  uint32_t size = 0;
  uint64_t look = 0;
  for (;;) {
    if (device.features & VIRTIO_CONSOLE_F_SIZE && now_ns() >= look) {
      uint32_t now = mmio_read(device.window + CONFIG);
      look = now_ns() + SIZE_LOOK_NS;
      if (now != size) tell_size(now);
      size = now;
    }
    uint32_t head, bytes;
    if (!take(&head, &bytes)) continue;
    say(replies[head], bytes);
    for (uint32_t i = 0; i < bytes; i++) {
      if (replies[head][i] == 'q') return;
    }
    give_back(head);
  }
}

static void found(uint64_t window, uint32_t number) {
  if (number > 0) return;
  bool fine = virtio_negotiate(&device, window, VIRTIO_CONSOLE_F_SIZE) &&
              virtio_queue(&device, &receiveq, 0, DEPTH) &&
              virtio_queue(&device, &transmitq, 1, DEPTH);
  if (!fine || receiveq.size < DEPTH || transmitq.size < DEPTH) {
    print("console: no queues\n");
    failures++;
    return;
  }
  for (uint32_t i = 0; i < DEPTH; i++) {
    buffers[i] = allocate(BYTES);
    replies[i] = allocate(BYTES);
    give_back(i);
  }
  virtio_driver_ok(&device);
  uint64_t total = option_number("send", 0, NULL);
  if (total) send(total);
  total = option_number("expect", 0, NULL);
  if (total) expect(total);
  if (option_is("echo", NULL)) echo();
  virtio_reset(window);
}

void main(void) {
  platform_start();
  if (virtio_each(VIRTIO_ID_CONSOLE, found) == 0) print("guest: no console found\n");
  print("console guest: %s\n", failures ? "FAIL" : "PASS");
  leave(failures ? 1 : 0);
}
