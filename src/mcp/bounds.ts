/** What clients over HTTP may use. */
export interface Bounds {
  /** Sessions of one principal, and of all together. */
  readonly perPrincipalMax: number
  readonly max: number
  /** Without a request and without an open stream. */
  readonly idleMs: number
  /** Unanswered requests of one session. */
  readonly requestsMax: number
  readonly streamsMax: number
  /** Bytes that wait for one stream's reader. */
  readonly streamBytesMax: number
  /** A call whose stream was cut continues this long for a client that resumes. */
  readonly resumeMs: number
}
export const defaultBounds: Bounds = {
  perPrincipalMax: 200,
  max: 1000,
  idleMs: 1_800_000,
  requestsMax: 64,
  streamsMax: 80,
  streamBytesMax: 1_048_576,
  resumeMs: 10_000,
}
