/**
 * What a process that lives on does not take over from where it was started: `serve`, its
 * supervisors, and through them the agents. Each line ties a process to a repository, a terminal, a
 * session or a program that will be gone, or is somebody else's. All else is kept: keys and logins,
 * proxies, PATH, who commits, and what a person activated for the tools that PATH then finds (a
 * virtualenv, conda).
 */
const tied: readonly RegExp[] = [
  // git rev-parse --local-env-vars, as git 2.47 prints it: git itself drops them when it goes to
  // another repository. A hook has them.
  /^GIT_(?:ALTERNATE_OBJECT_DIRECTORIES|CONFIG|CONFIG_PARAMETERS|CONFIG_COUNT|OBJECT_DIRECTORY|DIR|WORK_TREE|IMPLICIT_WORK_TREE)$/,
  /^GIT_(?:GRAFT_FILE|INDEX_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|PREFIX|INTERNAL_SUPER_PREFIX|SHALLOW_FILE|COMMON_DIR)$/,
  // What else git sets for its hooks and aliases: of one push, of one commit's moment, of one git's
  // own programs.
  /^GIT_(?:CONFIG_(?:KEY|VALUE)_\d+|NAMESPACE|QUARANTINE_PATH|PUSH_OPTION_.*|REFLOG_ACTION|EXEC_PATH|INTERNAL_.*)$/,
  /^GIT_(?:AUTHOR_DATE|COMMITTER_DATE|(?:LITERAL|GLOB|NOGLOB|ICASE)_PATHSPECS)$/,
  // Claude Code's of one session, for its tools, hooks, plugins and MCP servers. How it is to work,
  // and its keys, are kept.
  /^(?:CLAUDECODE|CLAUDE_PROJECT_DIR|CLAUDE_ENV_FILE|CLAUDE_PLUGIN_(?:ROOT|DATA|OPTION_.*)|CLAUDE_SKILL_DIR|CLAUDE_JOB_DIR|CLAUDE_SESSION_ID)$/,
  /^CLAUDE_CODE_(?:SESSION_(?:ID|KIND|NAME|ACCESS_TOKEN|LOG)|ENTRYPOINT|SSE_PORT|CHILD_SESSION|EXECPATH|REMOTE|REMOTE_SESSION_ID)$/,
  /^CLAUDE_CODE_(?:AGENT|TASK_LIST_ID|TMUX_.*|RESUME_.*|WORKER_EPOCH|.*_FILE_DESCRIPTOR)$/,
  /^CLAUDE_(?:BG|BRIDGE|PTY|RUNNER|AGENT_SDK)_.*$|^CLAUDE_EFFORT$|^AI_AGENT$/,
  // Our own, of an instance or a checkout's loop that this was started in.
  /^BLACKBOX5_(?:INSTANCE|TURN|AGENT_.*)$|^RALF_(?:PROJECT|ENGINE|BLACKBOX5|RUN)_DIR$/,
  // Terminals and their multiplexers: a loop's tmux would open its panes in the person's.
  /^(?:TMUX|TMUX_PANE|TMUX_TMPDIR|STY|SCREENDIR|WINDOW|WINDOWID|TERMCAP|ZELLIJ.*|SSH_TTY|SSH_CLIENT|SSH_CONNECTION)$/,
  /^(?:TERM_PROGRAM.*|TERM_SESSION_ID|LC_TERMINAL.*|ITERM_.*|KITTY_.*|WEZTERM_.*|ALACRITTY_.*|GHOSTTY_.*|KONSOLE_.*|GNOME_TERMINAL_.*)$/,
  /^(?:VTE_VERSION|WT_SESSION|WT_PROFILE_ID|LINES|COLUMNS|SHLVL|PWD|OLDPWD|_)$/,
  // Editors: what they start asks them, and they will be closed.
  /^(?:VSCODE_.*|CURSOR_(?:TRACE_ID|AGENT)|NVIM|NVIM_LISTEN_ADDRESS|VIM|VIMRUNTIME|MYVIMRC|INSIDE_EMACS|EMACS|ZED_TERM)$/,
  /^(?:TERMINAL_EMULATOR|__INTELLIJ_.*|ELECTRON_(?:RUN_AS_NODE|NO_ATTACH_CONSOLE|NO_ASAR)|CHROME_DESKTOP)$/,
  // Whatever ran the command that this is: npm, yarn and pnpm, make, direnv, node's fork and tests,
  // systemd.
  /^(?:npm_.*|INIT_CWD|PNPM_SCRIPT_SRC_DIR|BERRY_BIN_FOLDER|COREPACK_ROOT|MAKEFLAGS|MFLAGS|MAKELEVEL|MAKE_TERM(?:OUT|ERR))$/,
  /^(?:DIRENV_.*|NODE_CHANNEL_.*|NODE_UNIQUE_ID|NODE_TEST_CONTEXT|NODE_V8_COVERAGE|VITEST.*|JEST_WORKER_ID)$/,
  /^(?:NOTIFY_SOCKET|LISTEN_(?:FDS|FDNAMES|PID)|WATCHDOG_(?:PID|USEC)|INVOCATION_ID|JOURNAL_STREAM|MANAGERPID|SYSTEMD_EXEC_PID)$/,
]
/**
 * What a person may have set, and what an editor or a git hook sets for what it starts. The value
 * tells which.
 */
const shared =
  /^(?:GIT_ASKPASS|SSH_ASKPASS|NODE_OPTIONS|EDITOR|VISUAL|GIT_EDITOR|GIT_SEQUENCE_EDITOR)$/
const ofSession =
  /vscode|cursor|electron|js-debug|windsurf|\bcode\b|--server|--remote|emacsclient|\bnvr\b|^:$/i

/** The environment for what outlives the session that started it. */
export const lastingOf = (
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> =>
  Object.fromEntries(
    Object.entries(env).filter(
      ([name, value = ""]) =>
        !tied.some((pattern) => pattern.test(name)) &&
        !(shared.test(name) && ofSession.test(value)),
    ),
  )
