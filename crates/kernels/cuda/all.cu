// All kernels, as one unit.
#include "device.cuh"

#include "activation.cuh"
#include "attention.cuh"
#include "elementwise.cuh"
#include "embedding.cuh"
#include "loss.cuh"
#include "muon.cuh"
#include "norm.cuh"
#include "optimizer.cuh"
#include "reduction.cuh"
#include "rotary.cuh"

#ifdef FORERUNNER_EMULATOR
#include "../emulator/emulator.cpp"
#include "../emulator/faults.cuh"
#include "../emulator/self_test.cuh"
#endif
