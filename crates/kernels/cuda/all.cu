// All kernels, as one unit.
#include "device.cuh"

#include "elementwise.cuh"

#ifdef FORERUNNER_EMULATOR
#include "../emulator/emulator.cpp"
#endif
