/* The list: one file and one line for each service. */
#include "common/transport/grpc_impl.h"

extern const struct service tunnel_service, health_service, reflection_service,
                reflection_alpha_service;

const struct service *const services[] = {
	&tunnel_service, &health_service, &reflection_service, &reflection_alpha_service, NULL,
};
