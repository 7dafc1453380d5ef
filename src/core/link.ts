/** That a supervisor is linked to a gateway. */
export interface Linked {
  /** Tells one process of the control plane from another. */
  readonly gateway: string
  readonly place: string
  readonly sinceMs: number
}

export const isSameLink = (a: Linked | undefined, b: Linked): boolean =>
  a?.gateway === b.gateway && a.place === b.place && a.sinceMs === b.sinceMs
