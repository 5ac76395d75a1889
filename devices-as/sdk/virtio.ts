// Numbers of the specification that device authors need, under its own names.

/** Device types (virtio v1.2 §5). */
export const VIRTIO_ID_RNG: u32 = 4;
