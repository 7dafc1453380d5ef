/** Who leads. One at a time, and each with a greater term than the one before. */
export class Leadership {
  readonly #waiting = new Set<() => void>()
  #leader: object | undefined
  #term = 0

  /** Undefined when the signal ended before it was this one's turn. */
  async acquire(lease: object, signal: AbortSignal): Promise<number | undefined> {
    while (this.#leader && !signal.aborted)
      await new Promise<void>((resolve) => {
        const next = (): void => {
          this.#waiting.delete(next)
          signal.removeEventListener("abort", next)
          resolve()
        }
        this.#waiting.add(next)
        signal.addEventListener("abort", next)
      })
    if (signal.aborted) return undefined
    this.#leader = lease
    return ++this.#term
  }
  release(lease: object): void {
    if (this.#leader === lease) this.expire()
  }
  /**
   * Lets the next one lead, as when a lease ran out. The former leader is not told, as one that
   * hangs would not be: its writes are refused for their term.
   */
  expire(): void {
    this.#leader = undefined
    for (const next of [...this.#waiting]) next()
  }
}
