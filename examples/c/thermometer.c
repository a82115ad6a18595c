/*
 * A thermometer in C with libmosquitto: reads temperatures from standard input, one a line, and sends each until the
 * server's receipt says that it is kept.
 *
 *   cc -std=c11 -Wall -Wextra -o thermometer thermometer.c -lmosquitto
 *   echo 36.8 | VG_DEVICE=therm-1 VG_PASSWORD=... ./thermometer
 *
 * One message is on its way at a time, in memory. A device that must survive a power cut writes epoch, number and
 * message to its flash before sending, and erases them when the receipt is there. What a message and a receipt look
 * like: docs/mqtt.md.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <mosquitto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_WAIT_S 5
#define LONGEST_WAIT_S 120
#define GIVE_UP_S 600 /* of this example; a device goes on for ever */

static char device[65], epoch[17], readings_topic[100], receipts_topic[100];
static long kept_through = -1; /* of our epoch */
static long wanted = 0;        /* the number under way */
static bool kept = false, connected = false;

static const char *setting(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    if (value == NULL || *value == '\0')
        value = fallback;
    if (value == NULL) {
        fprintf(stderr, "set %s\n", name);
        exit(2);
    }
    return value;
}

/* RFC 3339 in UTC with milliseconds; `out` holds 32 characters. */
static void timestamp(char *out)
{
    struct timespec now;
    struct tm utc;
    char seconds[24];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, 32, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000 % 1000));
}

/* A new random word at every start: the numbers begin at 1 again, and must not be taken for the old ones. */
static void choose_epoch(void)
{
    unsigned char bytes[8];
    FILE *source = fopen("/dev/urandom", "rb");
    if (source == NULL || fread(bytes, sizeof bytes, 1, source) != 1) {
        fprintf(stderr, "no randomness: %s\n", strerror(errno));
        exit(1);
    }
    fclose(source);
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(epoch + 2 * i, "%02x", bytes[i]);
}

static void on_connect(struct mosquitto *mosq, void *object, int code)
{
    (void)object;
    if (code != 0) {
        fprintf(stderr, "refused by the broker: %s\n", mosquitto_connack_string(code));
        return;
    }
    mosquitto_subscribe(mosq, NULL, receipts_topic, 1);
    connected = true;
}

static void on_disconnect(struct mosquitto *mosq, void *object, int code)
{
    (void)mosq, (void)object, (void)code;
    connected = false;
}

/* {"epoch":"..","kept_through":17,"beyond":[[19,22]],"rejected":[{"seq":16,"reason":"..","detail":".."}]} */
static void on_message(struct mosquitto *mosq, void *object, const struct mosquitto_message *message)
{
    char text[16384], mine[40];
    (void)mosq, (void)object;
    size_t length = (size_t)message->payloadlen;
    if (length >= sizeof text)
        return;
    memcpy(text, message->payload, length);
    text[length] = '\0';
    snprintf(mine, sizeof mine, "\"epoch\":\"%s\"", epoch);
    if (strstr(text, mine) == NULL)
        return; /* of an earlier start of this device */
    const char *through = strstr(text, "\"kept_through\":");
    if (through != NULL && sscanf(through, "\"kept_through\":%ld", &kept_through) == 1 && kept_through >= wanted)
        kept = true;
    for (const char *at = strstr(text, "\"beyond\":["); at != NULL; ) {
        long first, last;
        at = strchr(at + 1, '[');
        if (at == NULL || at[1] == '[')
            continue;
        if (sscanf(at, "[%ld,%ld]", &first, &last) != 2)
            break;
        if (first <= wanted && wanted <= last)
            kept = true;
    }
    char refused[40];
    snprintf(refused, sizeof refused, "{\"seq\":%ld,", wanted);
    const char *reason = strstr(text, refused);
    if (kept && reason != NULL)
        fprintf(stderr, "message %ld is kept but was refused: %s\n", wanted, reason);
}

/* Returns when the receipt is there; false when it did not come in time. */
static bool send_until_kept(struct mosquitto *mosq, double celsius, const char *measured_at)
{
    char payload[512], sent_at[32];
    time_t begun = time(NULL), due = 0;
    int wait = FIRST_WAIT_S;
    bool was_connected = false;
    kept = false;
    while (!kept && time(NULL) - begun < GIVE_UP_S) {
        if (connected && (time(NULL) >= due || !was_connected)) { /* at once after a reconnect */
            timestamp(sent_at); /* anew at every sending; everything else stays the same */
            int length = snprintf(payload, sizeof payload,
                "{\"epoch\":\"%s\",\"seq\":%ld,\"sent_at\":\"%s\",\"readings\":[{\"metric\":\"temperature\","
                "\"value\":%.2f,\"unit\":\"Cel\",\"site\":\"ear\",\"time\":\"%s\"}]}",
                epoch, wanted, sent_at, celsius, measured_at);
            mosquitto_publish(mosq, NULL, readings_topic, length, payload, 1, false);
            due = time(NULL) + wait;
            wait = wait * 2 < LONGEST_WAIT_S ? wait * 2 : LONGEST_WAIT_S;
        }
        was_connected = connected;
        if (mosquitto_loop(mosq, 100, 1) != MOSQ_ERR_SUCCESS) {
            struct timespec pause = {1, 0};
            connected = false;
            nanosleep(&pause, NULL);
            mosquitto_reconnect(mosq);
        }
    }
    return kept;
}

int main(void)
{
    char line[64], measured_at[32], client_id[80];
    snprintf(device, sizeof device, "%s", setting("VG_DEVICE", NULL));
    snprintf(readings_topic, sizeof readings_topic, "v1/devices/%s/readings", device);
    snprintf(receipts_topic, sizeof receipts_topic, "v1/devices/%s/receipts", device);
    snprintf(client_id, sizeof client_id, "%s-c", device);
    choose_epoch();

    mosquitto_lib_init();
    struct mosquitto *mosq = mosquitto_new(client_id, true, NULL);
    if (mosq == NULL) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    mosquitto_username_pw_set(mosq, device, setting("VG_PASSWORD", NULL));
    mosquitto_connect_callback_set(mosq, on_connect);
    mosquitto_disconnect_callback_set(mosq, on_disconnect);
    mosquitto_message_callback_set(mosq, on_message);
    int code = mosquitto_connect(mosq, setting("VG_HOST", "127.0.0.1"), atoi(setting("VG_PORT", "1883")), 30);
    if (code != MOSQ_ERR_SUCCESS)
        fprintf(stderr, "no broker yet: %s\n", mosquitto_strerror(code)); /* it is tried again */

    int status = 0;
    while (status == 0 && fgets(line, sizeof line, stdin) != NULL) {
        char *end;
        double celsius = strtod(line, &end);
        if (end == line) {
            fprintf(stderr, "not a number: %s", line);
            continue;
        }
        wanted++;
        timestamp(measured_at);
        if (send_until_kept(mosq, celsius, measured_at)) {
            printf("%ld kept\n", wanted);
            fflush(stdout);
        } else {
            fprintf(stderr, "no receipt for message %ld\n", wanted);
            status = 1;
        }
    }
    mosquitto_disconnect(mosq);
    mosquitto_destroy(mosq);
    mosquitto_lib_cleanup();
    return status;
}
