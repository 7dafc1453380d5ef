/**
 * The closed set of ways a call can fail. Exit code and MCP's isError are derived from it at the
 * faces.
 */
export const faultCodes = [
  "Invalid",
  "Unauthenticated",
  "Forbidden",
  "NotFound",
  "Conflict",
  "TooLarge",
  "RateLimited",
  "Unavailable",
  "Internal",
] as const
export type FaultCode = (typeof faultCodes)[number]

/** As HTTP says it (RFC 9110, RFC 6585). */
export const httpStatus = {
  Invalid: 400,
  Unauthenticated: 401,
  Forbidden: 403,
  NotFound: 404,
  Conflict: 409,
  TooLarge: 413,
  RateLimited: 429,
  Unavailable: 503,
  Internal: 500,
} as const satisfies Record<FaultCode, number>

const retried: ReadonlySet<FaultCode> = new Set<FaultCode>([
  "Conflict",
  "RateLimited",
  "Unavailable",
  "Internal",
])

/**
 * An error for the reader who must act: `message` says what and why, `next` says what to do now.
 * Both are our own words, and at most the caller's. What a program, a repository or an agent said
 * about it is `untrusted`: every face fences it.
 */
export class Fault extends Error {
  readonly code: FaultCode
  readonly next: string
  readonly untrusted: string | undefined
  constructor(code: FaultCode, message: string, next: string, cause?: unknown, untrusted?: string) {
    super(message, { cause })
    this.name = "Fault"
    this.code = code
    this.next = next
    this.untrusted = untrusted
  }
  /**
   * What happened, with what others said about it: only for a text that is none of ours as a whole.
   */
  get whole(): string {
    return this.untrusted === undefined ? this.message : `${this.message} ${this.untrusted}`
  }
  /** True when trying again unchanged cannot help. */
  get terminal(): boolean {
    return !retried.has(this.code)
  }
}

/** Too many calls of one caller. */
export class RateLimited extends Fault {
  readonly retryAfterSeconds: number
  constructor(message: string, retryAfterSeconds: number) {
    super("RateLimited", message, `Try again in ${retryAfterSeconds} s.`)
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/**
 * The disk of the state directory has no room. It passes, so it is waited for rather than failed
 * at.
 */
export class DiskFull extends Fault {
  constructor(path: string, cause?: unknown) {
    super(
      "Unavailable",
      `The disk of ${path} is full; nothing was written.`,
      "Make room on it and try again.",
      cause,
    )
  }
}

/** As a field of a result. */
export const faultText = ({
  untrusted,
}: Pick<Fault, "untrusted">): { readonly untrusted?: string } =>
  untrusted === undefined ? {} : { untrusted }

/**
 * Any thrown value as a Fault; what is not one already becomes Internal and keeps the original as
 * its cause.
 */
export const asFault = (error: unknown): Fault =>
  error instanceof Fault
    ? error
    : new Fault(
        "Internal",
        "The call failed inside blackbox5.",
        "Look at the log of `blackbox5 serve`.",
        error,
      )
