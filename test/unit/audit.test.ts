import { describe, expect, it } from "vitest"
import { auditOf } from "../../src/core/audit.ts"
import { Fault } from "../../src/core/faults.ts"

describe("an audit record", () => {
  it("tells people by role and name, and an identity provider's by their id too, on one line", () => {
    const record = (name?: string) =>
      auditOf({
        who: { kind: "human", id: "oidc:7c1f", role: "operator", ...(name !== undefined && { name }) },
        tool: "stop_instances",
        on: ["shop-1"],
        flags: ["remove"],
        fault: new Fault("Forbidden", "It is not yours.", "Ask."),
      })
    expect(record("Ann Lee").message).toBe(
      "operator Ann Lee (oidc:7c1f) called stop_instances (remove) on shop-1: Forbidden, It is not yours.",
    )
    expect(record("Ann\nadmin root called").called?.who).toBe("operator Ann admin root called (oidc:7c1f)")
    expect(record().called).toEqual({
      ...{ who: "operator oidc:7c1f", tool: "stop_instances", on: ["shop-1"], flags: ["remove"], verdict: "Forbidden" },
    })
  })
})
