/*
 * Control of a command that runs: pause, resume, cancel, signals. In: CONTROL
 * of the frontend, and the answers of the cell's init.
 */
#include "supervisor/command_state.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "supervisor/cell.h"
#include "supervisor/link.h"

int command_signal(struct command *command, int signal, uint32_t req, uint32_t action)
{
    for (uint32_t cookie = 0; cookie < CONTROLS_MAX; cookie++) {
        struct pending *pending = &command->pending[cookie];
        int result;

        if (pending->used) {
            continue;
        }
        result = cell_signal(command->cell, command->owner.exec, signal, cookie);
        if (result == 0) {
            *pending = (struct pending){req, action, signal, true};
        }
        return result;
    }
    return -EBUSY;
}

static void tell_controlled(const struct command *command, uint32_t req, uint32_t action_code)
{
    struct msg_CONTROLLED msg = {.sid = command->owner.sid,
                                 .req = req,
                                 .exec = command->owner.exec,
                                 .action = action_code,
                                 .pid = (uint32_t)command->pid,
                                 .pgid = (uint32_t)command->pid};

    link_tell(MSG_CONTROLLED, &msg);
}

static void refuse_no_process(uint32_t sid, uint32_t req)
{
    link_refuse(sid, req, -32002, "no_process", "No process is running");
}

void command_signaled(struct command *command, uint32_t cookie, int error)
{
    struct pending pending;

    if (cookie >= CONTROLS_MAX || !command->pending[cookie].used) {
        return;
    }
    pending = command->pending[cookie];
    command->pending[cookie].used = false;
    if (pending.req != 0 && !command->gone) {
        if (error != 0) {
            refuse_no_process(command->owner.sid, pending.req);
        } else {
            tell_controlled(command, pending.req, pending.action);
        }
    }
    if (error == 0 && pending.signal == SIGSTOP) {
        command_handle(command, EV_PAUSED);
    } else if (error == 0 && pending.signal == SIGCONT) {
        command_handle(command, EV_RESUMED);
    }
}

static void control_by_signal(struct command *command, const struct msg_CONTROL *msg, int signal)
{
    int result;

    if (command->state == COMMAND_STOPPING) {
        link_refuse(msg->sid, msg->req, -32015, "wrong_state", "The process is being stopped");
        return;
    }
    result = command_signal(command, signal, msg->req, msg->action);
    if (result < 0) {
        link_refuse(msg->sid, msg->req, -32603, "internal", "The cell takes no requests: %s",
                    strerror(-result));
    }
}

void command_control(struct command *command, const struct msg_CONTROL *msg)
{
    bool other = command != NULL && msg->exec != 0 && msg->exec != command->owner.exec;

    if (command == NULL || other || command->state == COMMAND_STARTING ||
        command->state >= COMMAND_DRAINING) {
        refuse_no_process(msg->sid, msg->req);
        return;
    }
    switch (msg->action) {
    case ACTION_PAUSE:
        control_by_signal(command, msg, SIGSTOP);
        break;
    case ACTION_RESUME:
        control_by_signal(command, msg, SIGCONT);
        break;
    case ACTION_CANCEL:
        tell_controlled(command, msg->req, msg->action);
        command_stop(command, REASON_CANCELED);
        break;
    case ACTION_SIGNAL:
        if (msg->signal == 0) {
            link_refuse(msg->sid, msg->req, -32602, "invalid_params", "Signal 0 is none");
            break;
        }
        control_by_signal(command, msg, (int)msg->signal);
        break;
    default:
        link_refuse(msg->sid, msg->req, -32602, "invalid_params", "Unknown control type: %u",
                    msg->action);
        break;
    }
}
