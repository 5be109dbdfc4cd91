/* A stand-in for the driver's libnvidia-ml.so.1: the few calls that frugal_meter makes through nvidia-ml-py.
 *
 * The machine is the text file that FAKE_NVML names, read anew at each call:
 *   driver R               nvmlInit answers R (0: success, 9: driver not loaded)
 *   gpu I key=value ...    energy_mj, power_mw, limit_mw, mig, util, fail; a key that is absent is not supported
 *   process I pid time sm  one sample of process utilisation
 * Return codes are those of nvml.h (NVML API Reference Guide, enum nvmlReturn_t).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, UNKNOWN = 999 };
enum { GPUS = 8, PROCESSES = 16 };

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long time; unsigned sm, mem, enc, dec; } Sample;

static int opened;
static char handles[GPUS];

static int each_line(const char *prefix, int index, char *line, size_t size, int skip) {
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    int found = 0, at;
    char word[16];
    while (file && !found && fgets(line, (int)size, file))
        found = sscanf(line, "%15s %d", word, &at) == 2 && !strcmp(word, prefix) && (index < 0 || at == index) && skip-- == 0;
    if (file) fclose(file);
    return found;
}

static int value(void *handle, const char *key, unsigned long long *out) {
    char line[256], *at;
    if (!opened) return UNINITIALIZED;
    if (!each_line("gpu", (int)((char *)handle - handles), line, sizeof line, 0)) return NOT_FOUND;
    if ((at = strstr(line, " fail="))) return atoi(at + 6);
    if (!(at = strstr(line, key))) return NOT_SUPPORTED;
    *out = strtoull(at + strlen(key), NULL, 10);
    return SUCCESS;
}

static int narrow(void *handle, const char *key, unsigned *out) {
    unsigned long long wide = 0;
    int answer = value(handle, key, &wide);
    if (answer == SUCCESS) *out = (unsigned)wide;
    return answer;
}

int nvmlInitWithFlags(unsigned flags) {
    char line[256];
    int answer = each_line("driver", -1, line, sizeof line, 0) ? atoi(line + 7) : SUCCESS;
    (void)flags;
    opened += answer == SUCCESS;
    return answer;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return opened ? (opened--, SUCCESS) : UNINITIALIZED; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : code == 15 ? "GPU is lost" : "Fake error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    char line[256];
    if (!opened) return UNINITIALIZED;
    for (*count = 0; each_line("gpu", -1, line, sizeof line, (int)*count); ++*count) {}
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!opened) return UNINITIALIZED;
    if (index >= GPUS) return INVALID;
    *handle = handles + index;
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    return nvmlDeviceGetHandleByIndex_v2((unsigned)atoi(uuid + strlen("GPU-fake-")), handle);
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    snprintf(uuid, size, "GPU-fake-%d", (int)((char *)handle - handles));
    return SUCCESS;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    (void)handle;
    snprintf(name, size, "Fake H100");
    return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *mj) { return value(handle, " energy_mj=", mj); }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) { return narrow(handle, " power_mw=", mw); }
int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *least, unsigned *most) {
    *least = 0;
    return narrow(handle, " limit_mw=", most);
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    int answer = narrow(handle, " mig=", current);
    *pending = *current;
    return answer;
}
int nvmlDeviceGetUtilizationRates(void *handle, Utilization *rates) {
    rates->memory = 0;
    return narrow(handle, " util=", &rates->gpu);
}
int nvmlDeviceGetProcessUtilization(void *handle, Sample *samples, unsigned *count, unsigned long long since) {
    char line[256];
    Sample seen[PROCESSES];
    unsigned n = 0;
    int index = (int)((char *)handle - handles);
    if (!opened) return UNINITIALIZED;
    for (int skip = 0; n < PROCESSES && each_line("process", index, line, sizeof line, skip); skip++) {
        memset(&seen[n], 0, sizeof seen[n]);
        sscanf(line, "process %*d %u %llu %u", &seen[n].pid, &seen[n].time, &seen[n].sm);
        n += seen[n].time > since;
    }
    if (n == 0) return NOT_FOUND;
    if (!samples || *count < n) { *count = n; return TOO_SMALL; }
    memcpy(samples, seen, n * sizeof *seen);
    *count = n;
    return SUCCESS;
}
