package peer;

import ca.uhn.fhir.rest.annotation.ConditionalUrlParam;
import ca.uhn.fhir.rest.annotation.Create;
import ca.uhn.fhir.rest.annotation.IdParam;
import ca.uhn.fhir.rest.annotation.OptionalParam;
import ca.uhn.fhir.rest.annotation.Read;
import ca.uhn.fhir.rest.annotation.ResourceParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.annotation.Update;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.param.TokenOrListParam;
import ca.uhn.fhir.rest.server.IResourceProvider;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Resource;

/** Read, vread, create, update (which may create) and search by _id, for one type of resource. */
class Records<T extends Resource> implements IResourceProvider {
    private final Class<T> type;
    protected final Store store;

    Records(Class<T> type, Store store) {
        this.type = type;
        this.store = store;
    }

    @Override
    public Class<T> getResourceType() {
        return type;
    }

    @Read(version = true)
    public T read(@IdParam IdType id) {
        return type.cast(store.get(id).orElseThrow(() -> new ResourceNotFoundException(id)));
    }

    @Create
    public MethodOutcome create(@ResourceParam T resource, @ConditionalUrlParam String ifNoneExist) {
        return store.allOrNothing(() -> {
            Optional<Resource> existing =
                    ifNoneExist == null ? Optional.empty() : store.match(resource.fhirType(), ifNoneExist);
            return existing.map(found -> outcome(found, false)).orElseGet(() -> {
                store.put(Store.newId(resource.fhirType()), resource);
                return outcome(resource, true);
            });
        });
    }

    @Update
    public MethodOutcome update(@IdParam IdType id, @ResourceParam T resource) {
        boolean created = store.put(id, resource).getVersionIdPart().equals("1");
        return outcome(resource, created);
    }

    @Search
    public List<T> search(@OptionalParam(name = "_id") TokenOrListParam ids) {
        return matching(ids).toList();
    }

    protected final Stream<T> matching(TokenOrListParam ids) {
        return store.current(type.getSimpleName().replace("ListResource", "List"))
                .map(type::cast)
                .filter(resource -> ids == null || ids.getValuesAsQueryTokens().stream()
                        .anyMatch(token -> token.getValue().equals(resource.getIdElement().getIdPart())));
    }

    private static MethodOutcome outcome(Resource resource, boolean created) {
        return new MethodOutcome(resource.getIdElement(), created).setResource(resource);
    }
}
