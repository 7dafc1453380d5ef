import { execFileSync } from "node:child_process"
import { describe, expect, it } from "vitest"
import { lastingOf } from "../../src/core/environment.ts"

const kept = (...names: readonly string[]): string[] =>
  Object.keys(lastingOf(Object.fromEntries(names.map((name) => [name, "x"])))).toSorted()

describe("what outlives its session", () => {
  it("takes over nothing by which git on this machine finds another repository", () => {
    const names = execFileSync("git", ["rev-parse", "--local-env-vars"], { encoding: "utf8" })
      .trim()
      .split("\n")
    expect(names).toContain("GIT_INDEX_FILE")
    expect(
      kept(
        ...names,
        "GIT_CONFIG_KEY_0",
        "GIT_CONFIG_VALUE_12",
        "GIT_EXEC_PATH",
        "GIT_QUARANTINE_PATH",
      ),
    ).toEqual([])
  })

  it.each<[string, readonly string[]]>([
    [
      "a terminal",
      [
        "TMUX",
        "TMUX_PANE",
        "TMUX_TMPDIR",
        "STY",
        "SCREENDIR",
        "TERM_PROGRAM",
        "TERM_SESSION_ID",
        "SSH_TTY",
        "PWD",
        "_",
      ],
    ],
    [
      "a session of Claude Code",
      [
        "CLAUDECODE",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_PROJECT_DIR",
      ],
    ],
    [
      "a plugin or hook of it",
      [
        "CLAUDE_PLUGIN_ROOT",
        "CLAUDE_ENV_FILE",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
        "CLAUDE_BG_BACKEND",
      ],
    ],
    [
      "an editor",
      [
        "VSCODE_IPC_HOOK_CLI",
        "VSCODE_GIT_IPC_HANDLE",
        "NVIM",
        "INSIDE_EMACS",
        "ELECTRON_RUN_AS_NODE",
        "TERMINAL_EMULATOR",
      ],
    ],
    [
      "a command around it",
      [
        "npm_lifecycle_event",
        "INIT_CWD",
        "MAKEFLAGS",
        "DIRENV_DIR",
        "NODE_CHANNEL_FD",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
      ],
    ],
    [
      "another agent",
      [
        "BLACKBOX5_INSTANCE",
        "BLACKBOX5_TURN",
        "BLACKBOX5_AGENT_TOKEN",
        "RALF_PROJECT_DIR",
        "RALF_RUN_DIR",
      ],
    ],
  ])("takes over nothing of %s", (_, names) => {
    expect(kept(...names)).toEqual([])
  })

  it("keeps whose key, login, name and tools they are", () => {
    const names = [
      ...[
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_USE_BEDROCK",
      ],
      ...[
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_EMAIL",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_GLOBAL",
        "GIT_TOKEN",
        "GH_TOKEN",
        "SSH_AUTH_SOCK",
      ],
      ...[
        "HOME",
        "PATH",
        "LANG",
        "TERM",
        "HTTPS_PROXY",
        "TMPDIR",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "IS_SANDBOX",
        "XDG_RUNTIME_DIR",
      ],
    ].toSorted()
    expect(kept(...names)).toEqual(names)
  })

  it("tells a person's own way to ask for passwords, to edit and to run node from an editor's", () => {
    const own = {
      GIT_ASKPASS: "/usr/bin/ksshaskpass",
      NODE_OPTIONS: "--max-old-space-size=4096",
      EDITOR: "vim",
    }
    expect(lastingOf(own)).toEqual(own)
    const editors = {
      GIT_ASKPASS: "/usr/share/code/resources/app/extensions/git/dist/askpass.sh",
      NODE_OPTIONS: "--require /x/ms-vscode.js-debug/bootloader.js",
      GIT_EDITOR: ":", // what git sets for its hooks
      EDITOR: "nvim --server /run/nvim.sock --remote-wait",
    }
    expect(lastingOf(editors)).toEqual({})
  })
})
