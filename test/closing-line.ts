import { writeSync } from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

/**
 * Ends the output with `N passed, N failed`, alone on the last line, for whoever reads the run by
 * machine. A file that could not be loaded counts as failed.
 */
export class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const passed = tests.filter((test) => test.result().state === "passed").length
    const broken = modules.filter((module) => module.errors().length > 0).length + errors.length
    const failed = tests.filter((test) => test.result().state === "failed").length + broken
    process.once("exit", () => writeSync(1, `${passed} passed, ${failed} failed\n`))
  }
}
