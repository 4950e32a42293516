/* For the test of a handler: serves its component on this machine. It is compiled for this
 * machine, and not for WebAssembly. What fails ends the test with status 1. */
#ifndef SOCKSERVE_TESTING_H
#define SOCKSERVE_TESTING_H

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* `sockserve serve` with a component, on a free port of 127.0.0.1. */
typedef struct {
  pid_t process;
  int type;
  in_port_t port;
} sockserve_server;

/* Ends the test, unless `holds`. */
static void sockserve_check(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "test failed: %s\n", what);
  exit(1);
}

/* Serves a component over `tcp` or `udp`. The variable SOCKSERVE names the program, by
 * default `sockserve` in PATH. It ends with the test. */
static sockserve_server sockserve_start(const char *component, const char *transport) {
  const char *program = getenv("SOCKSERVE");
  if (program == NULL) program = "sockserve";
  char url[64];
  snprintf(url, sizeof url, "%s://127.0.0.1:0", transport);
  int output[2];
  sockserve_check(pipe(output) == 0, "a pipe");
  sockserve_server server = {.process = fork()};
  sockserve_check(server.process >= 0, "a process");
  if (server.process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(output[1], STDOUT_FILENO);
    close(output[0]);
    close(output[1]);
    execlp(program, program, "serve", component, "--listen", url, NULL);
    perror(program);
    _exit(1);
  }
  close(output[1]);
  /* listening tcp://127.0.0.1:PORT service=… */
  FILE *ready = fdopen(output[0], "r");
  unsigned port = 0;
  sockserve_check(ready != NULL && fscanf(ready, "listening %*[a-z]://127.0.0.1:%u", &port) == 1,
                  "sockserve listens");
  server.port = htons((in_port_t)port);
  server.type = strcmp(transport, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
  return server;
}

/* A socket that is connected to the server. A read of it fails after 30 seconds. */
static int sockserve_connect(const sockserve_server *server) {
  int client = socket(AF_INET, server->type, 0);
  struct timeval patience = {.tv_sec = 30};
  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = server->port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int connected = connect(client, (struct sockaddr *)&address, sizeof address);
  sockserve_check(connected == 0, "a connection");
  return client;
}

static void sockserve_stop(const sockserve_server *server) {
  kill(server->process, SIGTERM);
  waitpid(server->process, NULL, 0);
}

#endif
