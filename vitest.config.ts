import { defineConfig } from "vitest/config"
import { ClosingLine } from "./test/closing-line.ts"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/programs.ts"],
    reporters: ["default", new ClosingLine()],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 60_000,
    retry: 0,
    allowOnly: false,
  },
})
