// Exit statuses of a device process. A VmmError before the lock-down ends it with its exitStatus.

export const STATUS = {
  /** The VMM closed the socket: the ordinary end. */
  closed: 0,
  internal: 1,
  /** The module trapped, or answered what no correct module answers. */
  trapped: 70,
  /** The VMM sent what it must not send. */
  protocol: 71,
} as const;
