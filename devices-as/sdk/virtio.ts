// Numbers of the specification that device authors need, under its own names.

/** Device types (virtio v1.2 §5), named as in linux/virtio_ids.h. */
export const VIRTIO_ID_NET: u32 = 1;
export const VIRTIO_ID_BLOCK: u32 = 2;
export const VIRTIO_ID_CONSOLE: u32 = 3;
export const VIRTIO_ID_RNG: u32 = 4;
export const VIRTIO_ID_BALLOON: u32 = 5;
export const VIRTIO_ID_SCSI: u32 = 8;
export const VIRTIO_ID_9P: u32 = 9;
export const VIRTIO_ID_GPU: u32 = 16;
export const VIRTIO_ID_INPUT: u32 = 18;
export const VIRTIO_ID_VSOCK: u32 = 19;
export const VIRTIO_ID_CRYPTO: u32 = 20;
export const VIRTIO_ID_IOMMU: u32 = 23;
export const VIRTIO_ID_MEM: u32 = 24;
export const VIRTIO_ID_SOUND: u32 = 25;
export const VIRTIO_ID_FS: u32 = 26;
export const VIRTIO_ID_PMEM: u32 = 27;
export const VIRTIO_ID_RPMB: u32 = 28;
export const VIRTIO_ID_SCMI: u32 = 32;
export const VIRTIO_ID_I2C_ADAPTER: u32 = 34;
export const VIRTIO_ID_CAN: u32 = 36;
export const VIRTIO_ID_BT: u32 = 40;
export const VIRTIO_ID_GPIO: u32 = 41;

/**
 * Features of a device are bits, and these their numbers: `1 << VIRTIO_BLK_F_FLUSH`. Named as in
 * linux/virtio_blk.h (virtio v1.2 §5.2.3), with the types (§5.2.6) and statuses of requests.
 */
export const VIRTIO_BLK_F_SIZE_MAX: u64 = 1;
export const VIRTIO_BLK_F_SEG_MAX: u64 = 2;
export const VIRTIO_BLK_F_RO: u64 = 5;
export const VIRTIO_BLK_F_BLK_SIZE: u64 = 6;
export const VIRTIO_BLK_F_FLUSH: u64 = 9;
export const VIRTIO_BLK_F_TOPOLOGY: u64 = 10;
export const VIRTIO_BLK_F_CONFIG_WCE: u64 = 11;
export const VIRTIO_BLK_F_MQ: u64 = 12;
export const VIRTIO_BLK_F_DISCARD: u64 = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES: u64 = 14;
export const VIRTIO_BLK_T_IN: u32 = 0;
export const VIRTIO_BLK_T_OUT: u32 = 1;
export const VIRTIO_BLK_T_FLUSH: u32 = 4;
export const VIRTIO_BLK_T_GET_ID: u32 = 8;
export const VIRTIO_BLK_T_DISCARD: u32 = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES: u32 = 13;
export const VIRTIO_BLK_S_OK: u8 = 0;
export const VIRTIO_BLK_S_IOERR: u8 = 1;
export const VIRTIO_BLK_S_UNSUPP: u8 = 2;
export const VIRTIO_BLK_ID_BYTES: u32 = 20;
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP: u32 = 0x00000001;

/** As in linux/virtio_console.h (virtio v1.2 §5.3.3), with control messages (§5.3.6.2). */
export const VIRTIO_CONSOLE_F_SIZE: u64 = 0;
export const VIRTIO_CONSOLE_F_MULTIPORT: u64 = 1;
export const VIRTIO_CONSOLE_F_EMERG_WRITE: u64 = 2;
export const VIRTIO_CONSOLE_DEVICE_READY: u16 = 0;
export const VIRTIO_CONSOLE_PORT_ADD: u16 = 1;
export const VIRTIO_CONSOLE_PORT_READY: u16 = 3;
export const VIRTIO_CONSOLE_CONSOLE_PORT: u16 = 4;
export const VIRTIO_CONSOLE_RESIZE: u16 = 5;
export const VIRTIO_CONSOLE_PORT_OPEN: u16 = 6;
export const VIRTIO_CONSOLE_PORT_NAME: u16 = 7;

/** What a driver selects in the config space of linux/virtio_input.h (virtio v1.2 §5.8.2). */
export const VIRTIO_INPUT_CFG_UNSET: u8 = 0;
export const VIRTIO_INPUT_CFG_ID_NAME: u8 = 1;
export const VIRTIO_INPUT_CFG_ID_SERIAL: u8 = 2;
export const VIRTIO_INPUT_CFG_ID_DEVIDS: u8 = 3;
export const VIRTIO_INPUT_CFG_PROP_BITS: u8 = 0x10;
export const VIRTIO_INPUT_CFG_EV_BITS: u8 = 0x11;
export const VIRTIO_INPUT_CFG_ABS_INFO: u8 = 0x12;
