import { expect } from "vitest"
import type { FaultCode } from "../../src/core/faults.ts"

/** Expects a Fault with this code, and with something to do. */
export async function expectFault(
  promise: Promise<unknown>,
  code: FaultCode,
  message?: RegExp,
): Promise<void> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toMatchObject({ name: "Fault", code, next: expect.stringMatching(/\S/) })
  if (message) expect(error).toMatchObject({ message: expect.stringMatching(message) })
}
