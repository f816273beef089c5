"""The conformance table: what a supervisor must do, one behaviour per row, and where the demand comes from.

Every row whose mapping is not n.a. has one test whose name carries its id (``STA-3``: ``test_sta_3_...``).
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Row:
    id: str
    law: str
    source: str
    mapping: str
    """How it maps to Trio: yes; adapted and how; n.a. and why."""

    @property
    def applies(self) -> bool:
        return not self.mapping.startswith("n.a.")


ROWS = (
    Row(
        "VAL-1",
        (
            "Given two specs with the same id, when the supervisor is constructed (or checked), then it is "
            "rejected naming the id and nothing has started."
        ),
        ("OTP child_specs (duplicate id)"),
        ("yes"),
    ),
    Row(
        "VAL-2",
        (
            "Given an unknown strategy, restart type or auto-shutdown value, a negative or non-integer N, a P "
            "not finite and > 0, or a negative or NaN shutdown, when supervisor or spec is built, then it is "
            "rejected naming the field."
        ),
        ('OTP sup_flags, child_specs_map; Elixir dynamic_supervisor "with invalid child spec"'),
        ("yes"),
    ),
    Row(
        "VAL-3",
        (
            "Given a significant spec that is permanent, or any significant spec under auto_shutdown `never`, "
            "when given at construction or to start_child, then it is rejected."
        ),
        ("OTP child_specs_map (bad_combination), significant_upgrade_never_any"),
        ("yes"),
    ),
    Row(
        "VAL-4",
        (
            "Given a spec with only id and start, when read back, then restart is permanent, significant "
            'false, shutdown 5 s for a worker and infinite for a supervisor; an unknown id gives "not found".'
        ),
        ("OTP sup_start_map, sup_start_map_simple"),
        ("yes"),
    ),
    Row(
        "VAL-5",
        (
            "Given a dynamic supervisor, when it is built with auto_shutdown other than never, or a "
            "significant child is added to it, then it is rejected."
        ),
        ('OTP significant_simple; Elixir dynamic_supervisor "with invalid child spec"'),
        ("yes"),
    ),
    Row(
        "STA-1",
        (
            "Given specs a, b, c, when the supervisor starts, then b's start function is not called before a "
            "has acked, nor c's before b."
        ),
        ("OTP order_of_children; start_link doc"),
        ("adapted: nursery.start handshake"),
    ),
    Row(
        "STA-2",
        (
            "Given a parent that starts a supervisor, when its last child has not acked, then the parent's "
            "start call has not returned; it returns after the last ack."
        ),
        ("OTP start_link doc"),
        ("adapted: supervisor's own ack"),
    ),
    Row(
        "STA-3",
        (
            "Given a, b, c, d where c's start fails, when the supervisor starts, then b then a are stopped, d "
            "is never attempted, and the starter gets one error naming c and its cause."
        ),
        ("OTP faulty_application_shutdown; OTP-run"),
        ("yes"),
    ),
    Row(
        "STA-4",
        (
            "Given a permanent child whose very first start fails, when the supervisor is starting, then it "
            "is attempted once only, whatever N is."
        ),
        ("OTP supervisor:init_children; OTP-run"),
        ("yes"),
    ),
    Row(
        "STA-5",
        (
            'Given a child that declines to start ("ignore"), when started, then the next ones still start '
            "and it is listed stopped and not active; if temporary, its spec is dropped."
        ),
        ("OTP sup_start_ignore_child, sup_start_ignore_temporary_child(_start_child)"),
        ("adapted: a distinct decline result"),
    ),
    Row(
        "STA-6",
        (
            "Given a start function that returns without ack, when started, then that is a start failure with "
            "a message that says so."
        ),
        ("Trio Nursery.start; OTP sup_start_error_return"),
        ("adapted"),
    ),
    Row(
        "STA-7",
        (
            "Given a start timeout and a child that never acks, when it expires, then the child is cancelled, "
            "has ended before the error surfaces, and the failure is a start failure of kind timeout."
        ),
        ("gen_server start timeout (OTP docs)"),
        ("adapted: OTP's default is infinite"),
    ),
    Row(
        "STA-8",
        (
            "Given a, b, c where b's start hangs, when the supervisor is cancelled or told to stop, then b is "
            "cancelled at once, a is stopped after b has ended, c is never attempted, and the run ends "
            "without waiting for b's init."
        ),
        ("OTP-run (OTP waits: D3)"),
        ("adapted"),
    ),
    Row(
        "STA-9",
        (
            "Given a child that acks with a value, when started by start_child or restart_child, then the "
            "caller receives that value unchanged, and automatic restarts still work."
        ),
        ("OTP extra_return, simple_one_for_one_extra"),
        ("adapted: ack value"),
    ),
    Row(
        "RES-1",
        ("Given a permanent child, when it exits normal, shutdown or error, then each time it is restarted."),
        ("OTP permanent_normal/_shutdown/_abnormal"),
        ("yes"),
    ),
    Row(
        "RES-2",
        (
            "Given a transient child, when it exits normal or shutdown, then it is not restarted and its spec "
            "stays, state stopped; when it exits error, it is restarted."
        ),
        ("OTP transient_normal/_shutdown/_abnormal"),
        ("yes"),
    ),
    Row(
        "RES-3",
        (
            "Given a temporary child, when it exits in any way, then it is not restarted, its spec is gone, "
            "and its id can be used again."
        ),
        ("OTP temporary_*, do_not_save_child_specs_for_temporary_children"),
        ("yes"),
    ),
    Row(
        "RES-4",
        (
            "Given one_for_all or rest_for_one with a temporary bystander, when a sibling's failure restarts "
            "the group, then the bystander is stopped, not restarted and forgotten."
        ),
        ("OTP temporary_bystander"),
        ("yes"),
    ),
    Row(
        "RES-5",
        (
            "Given a permanent child stopped by terminate_child, when it has ended, then it is not restarted "
            "and nothing is counted."
        ),
        ("OTP child_adm, already_present"),
        ("yes"),
    ),
    Row(
        "RES-6",
        (
            "Given a restarted child, then its incarnation number is one higher, it has fresh state and "
            "scope, and late events of the earlier incarnation are ignored."
        ),
        ('OTP find_child_by_pid; Pekko ActorContextSpec "reset behavior upon restart"'),
        ("adapted: numbers instead of pids"),
    ),
    Row(
        "RES-7",
        (
            "Given temporary children with a large argument object, when each has ended, then the object is "
            "collectable, also after 10 000 of them and under every strategy."
        ),
        ("OTP do_not_save_start_parameters_for_temporary_children, simple_one_for_one_corruption"),
        ("yes"),
    ),
    Row(
        "STR-1",
        (
            "Given one_for_one a, b, when a crashes, then only a is restarted; b's incarnation is unchanged "
            "and was never cancelled."
        ),
        ("OTP one_for_one"),
        ("yes"),
    ),
    Row(
        "STR-2",
        (
            "Given one_for_all a, b, c, when b crashes, then c then a are stopped, then a, b, c start in this "
            "order."
        ),
        ("OTP one_for_all, order_of_children"),
        ("yes"),
    ),
    Row(
        "STR-3",
        (
            "Given one_for_all and N=1, when a and c crash in the same scheduler tick, then there is one "
            "group restart, counted once, and all three run."
        ),
        ("OTP-run"),
        ("yes"),
    ),
    Row(
        "STR-4",
        (
            "Given one_for_all a, b where b's restart fails once, when a crashes, then the already restarted "
            "a is stopped again and both are started anew; two counts in all."
        ),
        ("OTP one_for_all_other_child_fails_restart; OTP-run"),
        ("yes"),
    ),
    Row(
        "STR-5",
        (
            "Given rest_for_one a, b, c, d, when b crashes, then d then c are stopped and b, c, d start; a is "
            "untouched."
        ),
        ("OTP rest_for_one, order_of_children"),
        ("yes"),
    ),
    Row(
        "STR-6",
        (
            "Given rest_for_one a, b, c where b's restart fails once after a crash of a, then the restarted a "
            "is kept, and b and c start on the retry."
        ),
        ("OTP rest_for_one_other_child_fails_restart; OTP-run"),
        ("yes"),
    ),
    Row(
        "STR-7",
        (
            "Given a dynamic supervisor, when one child crashes, then only it is restarted, with its original "
            "arguments."
        ),
        ('OTP simple_one_for_one; Elixir "restarting a child with extra_arguments"'),
        ("yes"),
    ),
    Row(
        "STR-8",
        (
            "Given a dynamic supervisor with three children that each need 3 s to clean up, when stopped, "
            "then it ends after 3 s, not 9."
        ),
        ("OTP simple_one_for_one_shutdown; OTP-run"),
        ("yes"),
    ),
    Row(
        "STR-9",
        (
            "Given max_children = k and k children of which some are restarting, when another start is asked, "
            "then it is refused with a distinct error."
        ),
        ('Elixir "with max_children", "restarting on init/exit children counted in max_children"'),
        ("yes"),
    ),
    Row(
        "STR-10",
        (
            "Given a supervisor with added children, when it is itself restarted by its parent, then only its "
            "static specs come back."
        ),
        ("OTP tree"),
        ("yes"),
    ),
    Row(
        "STR-11",
        (
            "Given a dynamic child that declines at start, then no child is recorded; given one that declines "
            "at a restart, then it is removed and nothing is retried."
        ),
        ("OTP sup_start_ignore_*_simple, simple_one_for_one_restart_ignore"),
        ("yes"),
    ),
    Row(
        "STR-12",
        (
            "Given 1 000 and then 10 000 children, when started and terminated one by one, then cost grows "
            "about linearly (factor < 50)."
        ),
        ("OTP simple_one_for_one_scale_many_temporary_children, scale_start_stop_many_children"),
        ("yes"),
    ),
    Row(
        "STR-13",
        (
            "Given rest_for_one a, b, c with a and c stopped by terminate_child, when b crashes, then b and c "
            "are started and a stays stopped; under one_for_all all three are started."
        ),
        ("OTP tree (supchild3); OTP-run"),
        ("yes"),
    ),
    Row(
        "INT-1",
        ("Given N, P, when exactly N failures fall in P, then all N are restarted and the supervisor lives."),
        ('OTP multiple_restarts; Pekko "stop after restart retries limit"'),
        ("yes"),
    ),
    Row(
        "INT-2",
        (
            "Given N, P, when failure N+1 falls in P, then the child is not restarted, the others are stopped "
            "in reverse order, and the supervisor escalates with that child and cause named."
        ),
        ("OTP one_for_one (restart frequency); OTP-run"),
        ("yes"),
    ),
    Row(
        "INT-3",
        (
            "Given N=0, when any failure calls for a restart, then no restart is tried and the supervisor "
            "escalates."
        ),
        ('Pekko "stop at first exception when restart retries limit is 0"; OTP-run'),
        ("yes"),
    ),
    Row(
        "INT-4",
        (
            "Given N=1, P=10 and a restart at t=0, when the next failure is at t=10.0 exactly, then it "
            "escalates; at t=10.001 it does not."
        ),
        ("OTP add_restart (>=); D2"),
        ("adapted: exact clock"),
    ),
    Row(
        "INT-5",
        (
            "Given N=4 and a child that cannot start again, when it crashes, then exactly 4 restart attempts "
            "are made before escalation."
        ),
        ("OTP one_for_one_escalation; OTP-run"),
        ("yes"),
    ),
    Row(
        "BAC-1",
        (
            "Given backoff min, factor, cap and no jitter, when a child fails k times in a row, then the "
            "delays are min·factor^(k-1) up to cap, to the exact virtual time; cap bounds the real delay, "
            "jitter included, for any k."
        ),
        ('Pekko "restart after exponential backoff", BackoffSupervisorSpec "correctly calculate the delay"'),
        ("yes"),
    ),
    Row(
        "BAC-2",
        (
            "Given a child waiting out its delay, then it is listed `restarting`, counts as spec but not as "
            "active, and start/restart/delete of its id give already-present/restarting/restarting."
        ),
        ("OTP hanging_restart_loop, count_restarting_children"),
        ("yes"),
    ),
    Row(
        "BAC-3",
        (
            "Given a child waiting out its delay, when terminate_child is called or the supervisor is "
            "stopped, then the pending restart is dropped and the call returns at once."
        ),
        ('OTP hanging_restart_loop (both halves); Elixir "terminates restarting child"'),
        ("yes"),
    ),
    Row(
        "BAC-4",
        (
            "Given a group strategy with a delay, when a member fails, then the live members are stopped "
            "before the delay begins and none runs during it."
        ),
        ('Pekko "stop children when backoff"; OTP terminate_children before start_children'),
        ("yes"),
    ),
    Row(
        "BAC-5",
        (
            "Given reset_after, when a child has run that long since its last start, then its next delay is "
            "min again."
        ),
        ('Pekko "reset exponential backoff count after reset timeout"'),
        ("yes"),
    ),
    Row(
        "BAC-6",
        (
            "Given delays so long that the window never fills, when a child fails more than max_consecutive "
            "times without a healthy run of reset_after, then the supervisor escalates."
        ),
        ('Pekko "fail if reaching maximum number of restarts with backoff"'),
        ("adapted: closes a hole that backoff opens in N/P"),
    ),
    Row(
        "TER-1",
        (
            "Given a, b, c each with clean-up time, when the supervisor is stopped, then c has ended before b "
            "is told, and b before a."
        ),
        ("OTP order_of_children"),
        ("yes"),
    ),
    Row(
        "TER-2",
        (
            "Given a child with an awaiting clean-up shorter than its shutdown time, when stopped, then the "
            "clean-up completes and the exit kind is shutdown."
        ),
        ("OTP sup_stop_timeout"),
        ("adapted: cancel, then a shielded clean-up bounded by the shutdown time"),
    ),
    Row(
        "TER-3",
        (
            "Given a child that does not end within its shutdown time (a shield, a loop that resists), when "
            "stopped, then at that time it is marked unresponsive, one report with its stack is emitted, its "
            "messages and replies are fenced off, the stop call returns saying so, and the other children are "
            "stopped in order."
        ),
        ("OTP sup_stop_timeout (killed)"),
        (
            "adapted: D4; the task stays in the nursery and G1 makes the run wait for it, up to the root's "
            "hard deadline"
        ),
    ),
    Row(
        "TER-4",
        (
            "Given shutdown 0, when stopped, then the child is cancelled and gets no clean-up time beyond its "
            "next checkpoint; given infinite, then the supervisor waits as long as it takes."
        ),
        ("OTP sup_stop_brutal_kill(_dynamic), sup_stop_infinity"),
        ("adapted"),
    ),
    Row(
        "TER-5",
        (
            "Given a supervisor that is stopping, when children exit on their own in any kind meanwhile, then "
            "none is restarted, nothing is counted, and abnormal exits are reported."
        ),
        ("OTP sup_stop_race, sup_stop_non_shutdown_exit_dynamic"),
        ("yes"),
    ),
    Row(
        "TER-6",
        (
            "Given a child whose clean-up raises, when stopped, then a shutdown-error report carries the "
            "exception, the rest are still stopped, and the stop as a whole succeeds."
        ),
        ('OTP do_terminate (shutdown_error); Elixir "terminates children with ... abnormal reason"'),
        ("yes"),
    ),
    Row(
        "TER-7",
        (
            "Given a supervisor inside a scope that is cancelled or whose deadline passes, then children "
            "still stop one by one in reverse order with their shutdown times, and the cancellation is re- "
            "raised afterwards."
        ),
        ("Trio-run (a plain nursery stops in 21 different orders in 50 seeds)"),
        ("adapted: children live under a shield, the supervisor turns cancellation into an ordered stop"),
    ),
    Row(
        "TER-8",
        (
            "Given a stopping or stopped supervisor, when start_child or restart_child is called, then it is "
            "refused with a distinct error and the start function is not called."
        ),
        (
            "OTP noproc (child_adm); Trio-run (start_soon into a cancelled nursery still runs to the first "
            "checkpoint)"
        ),
        ("adapted"),
    ),
    Row(
        "TER-9",
        (
            "Given a child that catches and drops Cancelled in a loop, when stopped under the virtual clock, "
            "then the run is still bounded: a watchdog on scheduler steps or real time marks it unresponsive."
        ),
        ("Trio-run (autojump never fires while such a task spins)"),
        ("adapted"),
    ),
    Row(
        "TER-10",
        (
            "Given any of: clean stop, start failure, escalation, cancellation, system exit, when run has "
            "ended, then the number of living tasks is what it was before."
        ),
        ("Trio Instrument / current_statistics"),
        ("adapted: G1"),
    ),
    Row(
        "ADM-1",
        (
            "Given an id that is running, when start_child gives the same id, then already-started with that "
            "child; if the id is present but stopped, already-present; the new spec is discarded."
        ),
        ("OTP child_adm"),
        ("yes"),
    ),
    Row(
        "ADM-2",
        (
            "Given start_child whose start fails, then the caller gets the error, the spec is not kept, and "
            "nothing else changes."
        ),
        ('OTP sup_start_child_returns_error(_simple); Elixir "with throw/error/exit"'),
        ("yes"),
    ),
    Row(
        "ADM-3",
        (
            "Given terminate_child, when it returns, then the child has ended and the spec is kept "
            "(temporary: dropped); a second call is ok; an unknown id is not-found."
        ),
        ("OTP child_adm, extra_return"),
        ("yes"),
    ),
    Row(
        "ADM-4",
        (
            "Given restart_child, then it starts a stopped child; running gives running, unknown gives not- "
            "found; it is invalid on a dynamic supervisor."
        ),
        ("OTP child_adm, child_adm_simple"),
        ("yes"),
    ),
    Row(
        "ADM-5",
        (
            "Given delete_child, then a stopped spec is removed; running, restarting and unknown give their "
            "errors; deleted ids can be added again."
        ),
        ("OTP child_adm, extra_return"),
        ("yes"),
    ),
    Row(
        "ADM-6",
        (
            "Given children in all states, then counts of specs, active, supervisors and workers and the "
            "listing agree with them at every step, also for 2 000 dynamic children."
        ),
        ("OTP count_children(_supervisor), which_children, count_restarting_children"),
        ("yes"),
    ),
    Row(
        "ADM-7",
        (
            "Given a child in a crash-retry loop, when terminate_child, stop, or a query is called, then it "
            "is served between two attempts."
        ),
        ("OTP hanging_restart_loop(_rest_for_one, _simple)"),
        ("yes"),
    ),
    Row(
        "ADM-8",
        (
            "Given a supervisor that has ended, when any call is made, then it fails at once with supervisor- "
            "down, never hangs."
        ),
        ("OTP child_adm (noproc)"),
        ("yes"),
    ),
    Row(
        "ADM-9",
        (
            "Given N=0 and restart_child whose start fails, then the caller gets the error, the child stays "
            "stopped, nothing is counted, retried or escalated."
        ),
        ("OTP sup_start_restart_child_returns_error"),
        ("yes"),
    ),
    Row(
        "ESC-1",
        (
            "Given a permanent child supervisor, when it escalates, then its parent restarts it as one "
            "failure under the parent's own strategy and window."
        ),
        ("OTP tree; OTP-run"),
        ("yes"),
    ),
    Row(
        "ESC-2",
        ("Given a transient child supervisor, when it escalates, then it is restarted (D1)."),
        ("OTP-run shows the opposite"),
        ("adapted: D1"),
    ),
    Row(
        "ESC-3",
        (
            "Given the root, when it escalates, then after the ordered stop its run raises one exception "
            "whose chain leads from the root through each level to the last child's cause."
        ),
        ("OTP faulty_application_shutdown"),
        ("adapted"),
    ),
    Row(
        "ESC-4",
        (
            "Given a fault inside the supervisor itself (a policy callback raises), then its children are "
            "stopped in order and the parent sees an abnormal exit."
        ),
        (
            "ractor test_supervision_panic_in_supervisor_handle; OTP simple_global_supervisor "
            "(kill_supervisor)"
        ),
        ("adapted"),
    ),
    Row(
        "SIG-1",
        (
            "Given any_significant, when a significant transient child exits normal, or a significant "
            "temporary child exits in any kind, then the others are stopped in reverse order and the "
            "supervisor ends, kind shutdown."
        ),
        ("OTP significant_temporary, significant_transient"),
        ("yes"),
    ),
    Row(
        "SIG-2",
        (
            "Given any_significant, when a significant transient child crashes, then it is restarted and "
            "nothing stops."
        ),
        ("OTP significant_transient"),
        ("yes"),
    ),
    Row(
        "SIG-3",
        (
            "Given all_significant and two significant children, when the first ends, then nothing stops; "
            "when the second ends, the supervisor stops."
        ),
        ("OTP significant_temporary/_transient"),
        ("yes"),
    ),
    Row(
        "SIG-4",
        (
            "Given significant children, when one is stopped by terminate_child or as a bystander of a group "
            "restart, then no auto shutdown happens."
        ),
        ("OTP significant_bystander, significant_* (supervisor)"),
        ("yes"),
    ),
    Row(
        "SIG-5",
        (
            "Given a child supervisor that auto-shuts down, then for its parent this is a non-abnormal exit: "
            "if it is significant itself, the parent auto-shuts down too, else the parent lives on."
        ),
        ("OTP significant_escalation"),
        ("yes"),
    ),
    Row(
        "SIG-6",
        (
            "Given every auto_shutdown mode, when non-significant temporary or transient children end in any "
            "kind or are terminated, then the supervisor never auto-shuts down."
        ),
        ("OTP nonsignificant_temporary, nonsignificant_transient"),
        ("yes"),
    ),
    Row(
        "EXC-1",
        (
            "Given siblings, when one raises any Exception, then no sibling sees a cancellation because of it "
            "and the supervisor's nursery is not cancelled."
        ),
        ("G8; ractor test_supervision_panic_in_handle"),
        ("adapted: exceptions end in the child's wrapper"),
    ),
    Row(
        "EXC-2",
        (
            "Given a child whose inner nursery raises an ExceptionGroup, then the exit is judged on the "
            "leaves: any system leaf makes it system, all leaves orderly-stop makes it shutdown, otherwise "
            "error; policies that match exception types see leaves."
        ),
        ('Trio strict exception groups; Pekko "support nesting exceptions with different strategies"'),
        ("adapted"),
    ),
    Row(
        "EXC-3",
        (
            "Given a tree, when a child raises KeyboardInterrupt or SystemExit, then nothing is restarted or "
            "counted, every level stops in order with its shutdown times, and the same exception comes out of "
            "the root."
        ),
        ('Pekko "not catch fatal error"'),
        ("adapted: G10"),
    ),
    Row(
        "EXC-4",
        (
            "Given a child that raises a Cancelled object which belongs to another scope, then it is an error "
            "exit of that child; siblings and supervisor go on."
        ),
        ("Trio-run (a bare nursery ends silently and cancels all siblings)"),
        ("adapted: G9"),
    ),
    Row(
        "EXC-5",
        (
            "Given a child that raises while being cancelled by a stop, then this is a shutdown error report, "
            "no restart, no escalation, also when the exception arrives as a group mixed with Cancelled."
        ),
        ("Trio cancel-scope group splitting; OTP shutdown_error"),
        ("adapted"),
    ),
    Row(
        "EXC-6",
        (
            "Given a child exit of kind error, then the report has exception type, message, formatted "
            "traceback, child id, incarnation and strategy, and after it the supervisor holds no reference to "
            "the exception's frames."
        ),
        ("OTP format_log_*; report_error"),
        ("adapted"),
    ),
    Row(
        "MSG-1",
        ("Given one sender and one receiver, then messages are handled in the order sent, one at a time."),
        ("Erlang signal order; Trio test_channel"),
        ("yes"),
    ),
    Row(
        "MSG-2",
        (
            "Given a mailbox of capacity k that is full, when a tell is made, then it neither blocks nor "
            "raises inside the sender's loop unless asked to: it is counted as a dead letter, reason full."
        ),
        ('Pekko "publish dropped messages while backing off and stash is full"'),
        ("adapted"),
    ),
    Row(
        "MSG-3",
        (
            "Given mailbox policy keep, when the child is down and messages arrive, then up to the capacity "
            "they are kept and the next incarnation handles them in order; given policy drop, then they are "
            "discarded and each is counted."
        ),
        ('Pekko "ensure stash message retention on start exception when restart/backoff"; D5'),
        ("adapted: queue owned by the address, not by the incarnation"),
    ),
    Row(
        "MSG-4",
        (
            "Given a message whose handling crashed the child, then it is not delivered again to the next "
            "incarnation."
        ),
        ("Pekko restart semantics; G12"),
        ("yes"),
    ),
    Row(
        "MSG-5",
        (
            "Given a child that has ended for good, then its queued messages become dead letters, later tells "
            "return at once and are counted, and pending and later asks fail at once."
        ),
        (
            'Pekko AskSpec "fail the future if the actor is already terminated"; ractor '
            "test_sending_message_to_dead_actor; OTP noproc"
        ),
        ("yes"),
    ),
    Row(
        "MSG-6",
        (
            "Given an ask with timeout t and no reply, then it raises at exactly t on the clock, and a reply "
            "that comes later is a dead letter."
        ),
        ('Pekko AskSpec "doesn\'t reply in time", "publish dead-letter if ... completed on timeout"'),
        ("yes"),
    ),
    Row(
        "MSG-7",
        (
            "Given an ask in handling, when the target crashes, then the asker fails at once with an error "
            "that names target and cause, not at its timeout, and the asker itself is not cancelled."
        ),
        ('Elixir gen_server "call/3 exit messages"'),
        ("adapted: monitors per ask"),
    ),
    Row(
        "MSG-8",
        (
            "Given a monitor, then exactly one down notice arrives per monitored incarnation with its exit "
            "kind; for a dead target it arrives at once; after demonitor none arrives; monitoring never "
            "affects either side."
        ),
        ("Pekko WatchSpec; OTP monitor; ractor test_simple_monitor"),
        ("adapted"),
    ),
    Row(
        "MSG-9",
        (
            "Given a registered name, then a second registration fails; at the owner's end the name is free "
            "before anyone is told of the end; after a restart it leads to the new incarnation; a lookup "
            "never gives a dead one."
        ),
        (
            'Elixir registry/unique_test "has unique registrations across processes", registry_test "clean up '
            'registry on process crash"'
        ),
        ("yes"),
    ),
    Row(
        "CBR-1",
        (
            "Given max_failures = k, when k consecutive calls fail (an exception, or the call timeout "
            "passing), then the breaker opens and further calls fail at once without running; a success "
            "before that clears the count."
        ),
        (
            'Pekko CircuitBreakerSpec closed: "increment failure count on callTimeout", "reset failure count '
            'after success"'
        ),
        ("yes"),
    ),
    Row(
        "CBR-2",
        (
            "Given an open breaker, when reset time has passed, then exactly one trial call runs and others "
            "are refused; its success closes the breaker."
        ),
        (
            'Pekko half-open "pass through next call and close on success", "invoke onCallBreakerOpen while '
            'executing other"'
        ),
        ("yes"),
    ),
    Row(
        "CBR-3",
        (
            "Given a failed trial, then the breaker opens again with a reset time grown by the factor up to "
            "its cap; a success brings it back to the base."
        ),
        ('Pekko open "increase the reset timeout after it transits to open again"'),
        ("yes"),
    ),
    Row(
        "DET-1",
        (
            "Given a tree with 1 000 children, crashes, delays and asks, when run twice with one seed, in "
            "separate processes with random hash seeds, then the sequence of (task, virtual time) steps and "
            "of reports is equal."
        ),
        ("Trio test_the_trio_scheduler_is_deterministic_if_seeded; Trio-run (68 of 68)"),
        ("adapted: G11"),
    ),
    Row(
        "DET-2",
        (
            "Given an idle tree, when a million virtual seconds pass on an autojump clock, then the runtime "
            "takes at most a handful of scheduler steps: no polling, no heartbeat timer unless configured."
        ),
        ("Trio MockClock"),
        ("adapted"),
    ),
    Row(
        "DET-3",
        (
            "Given an Instrument, when a run ends, then tasks spawned = tasks exited, and after 1 000 "
            "restarts of one child the living-task count is unchanged."
        ),
        ("Trio Instrument"),
        ("adapted"),
    ),
    Row(
        "DET-4",
        (
            "Given every public async operation, when called in a cancelled scope, then it raises Cancelled "
            "without effect, and when it succeeds it has executed at least one checkpoint; public sync "
            "operations execute none."
        ),
        ("Trio checkpoint rules (testing.assert_checkpoints)"),
        ("adapted"),
    ),
    Row(
        "DET-5",
        (
            "Given the report stream of a run, then for each incarnation there is one started and one ended, "
            "incarnations do not overlap, and every restart is preceded by its cause."
        ),
        ("OTP progress and error reports; external_start_no_progress_log"),
        ("yes"),
    ),
    Row(
        "NA-1",
        ("Static supervisors hibernate after start."),
        ("OTP child_adm"),
        ("n.a.: no per-task heap"),
    ),
    Row(
        "NA-2",
        ("Code change swaps specs and flags of a live supervisor."),
        ("OTP code_change*, significant_upgrade_*"),
        ("n.a.: no hot upgrade"),
    ),
    Row(
        "NA-3",
        ("A child that unlinks itself cannot hang the supervisor."),
        ("OTP child_unlink"),
        ("n.a.: a task cannot leave its nursery"),
    ),
    Row(
        "NA-4",
        ("Unconditional kill of a process."),
        ("OTP sup_stop_brutal_kill"),
        ("n.a.: see TER-3, TER-4"),
    ),
    Row(
        "NA-5",
        ("Global and remote names, spawn options."),
        ("OTP simple_global_supervisor; Elixir"),
        ("n.a.: one process"),
    ),
)
